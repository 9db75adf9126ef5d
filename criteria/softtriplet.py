"""SoftTriple: classification with several centroids a class."""
from torch import Tensor

from criteria.base import Criterion
from criteria.proxies import cross_entropy, new_proxies, own_and_others
from utilities.pairwise import root, similarity, unit
from utilities.ranges import Depth, NonNegative, Positive


class SoftTriplet(Criterion):
    """SoftTriple loss (Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet
    Sampling", ICCV 2019, sections 3.2 and 3.3):

        L = cross_entropy(z) + reg_weight R,   z_ic = scale (S_ic - margin_delta [c = y])
        S_ic = sum_k softmax_k(s_ick/gamma) s_ick,   s_ick = x_i . w_ck,   |w_ck| = 1
        R = sum_c sum_{j<k} |w_cj - w_ck| / (C K (K-1))

    K = n_centroids of each of C classes; scale is also --loss_softtriplet_lambda. x must have unit
    rows. With K = 1, R is zero. Deviations: scale 8 and K = 2 as in the base framework; the paper
    has 20 and 10. The authors' code adds 1e-5 inside the root of `|w_cj - w_ck|`; here its gradient
    is zero where two coincide.

    Weights: as in the formula.
    """

    n_classes: int
    embed_dim: int
    n_centroids: Depth = 2
    margin_delta: NonNegative = 0.01
    gamma: Positive = 0.1
    scale: Positive = 8.0
    reg_weight: NonNegative = 0.2
    lr: NonNegative = 1e-2

    accepts_weight = "anchor"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own_lr = self.lr
        self.centroids = new_proxies(self.n_classes, self.n_centroids, self.embed_dim)  # (C, K, D)

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) below n_classes -> scalar."""
        centroids = unit(self.centroids.to(x.dtype))  # (C, K, D)
        s = similarity(x, centroids.flatten(0, 1))  # (B, C K)
        s = s.unflatten(-1, centroids.shape[:2])  # (B, C, K)
        share = (s / self.gamma).softmax(-1)  # (B, C, K)
        mixed = (share * s).sum(-1)  # (B, C)
        own, others = own_and_others(self.scale * mixed, label)  # (B, 1), (B, C)
        loss = cross_entropy(own - self.scale * self.margin_delta, others, weight)
        return loss + self.regulariser(centroids)

    def regulariser(self, centroids: Tensor) -> Tensor:
        """tau R of unit rows (C, K, D); the upper triangle counts each pair of a class once."""
        distances = root((2 - 2 * similarity(centroids)).triu(1))  # (C, K, K)
        pairs = self.n_classes * self.n_centroids * max(1, self.n_centroids - 1)
        return self.reg_weight / pairs * distances.sum()
