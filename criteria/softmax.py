"""Normalised softmax: classification by the cosine to a proxy of each class."""


from criteria.proxies import ProxyCriterion, cosine, cross_entropy, own_and_others
from utilities.ranges import NonNegative, Positive


class Softmax(ProxyCriterion):
    """Normalised softmax (Zhai and Wu, "Classification is a Strong Baseline for Deep Metric
    Learning", BMVC 2019):

        L = mean_i w+_i [ -z_iy + log( exp(z_iy) + w-_i sum_{k != y} exp(z_ik) ) ]
        z_ik = x_i . p_k / (|p_k| T)

    T = temperature. x must have unit rows. Deviation: no class-balanced subsampling and no layer
    norm, which belong to sampler and network.

    Weights: w+ scales the image's term, w- the exponentials of the other classes.
    """

    temperature: Positive = 0.05
    lr: NonNegative = 1e-5

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) below n_classes -> scalar."""
        z = cosine(x, self.proxies, 1 / self.temperature)  # (B, C)
        own, others = own_and_others(z, label)  # (B, 1), (B, C)
        return cross_entropy(own, others, weight)
