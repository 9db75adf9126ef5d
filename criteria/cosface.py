"""CosFace: classification by the cosine to a proxy of each class, with a margin on the own cosine."""
from torch import Tensor

from criteria.base import Criterion
from criteria.proxies import cosine, cross_entropy, new_proxies, own_and_others


class CosFace(Criterion):
    """CosFace (Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, eq. 4):

        z_ik = s (cos_ik - m [k = y]),   cos_ik = x_i . p_k / |p_k|
        L = mean_i w+_i [ -z_iy + log( exp(z_iy) + w-_i sum_{k != y} exp(z_ik) ) ]

    s = scale, m = margin; y is the class of image i, p_k the proxy of class k and lr the proxies' own learning rate. x
    is used as given: the network makes unit rows. No deviation.

    Weights: w+ scales the image's term, w- multiplies the exponentials of the other classes.
    """

    accepts_weight = "anchor"

    def __init__(self, n_classes: int, embed_dim: int, margin: float = 0.35, scale: float = 64.0, lr: float = 1e-2):
        super().__init__()
        self.margin, self.scale, self.own_lr = margin, scale, lr
        self.proxies = new_proxies(n_classes, embed_dim)  # (C, D)

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (B, D), label (B,) below n_classes -> scalar."""
        own, others = own_and_others(cosine(x, self.proxies, self.scale), label)  # (B, 1), (B, C)
        return cross_entropy(own - self.scale * self.margin, others, weight)
