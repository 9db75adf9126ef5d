"""Normalised softmax: classification by the cosine to a proxy of each class."""


from criteria.proxies import ProxyCriterion, cosine, cross_entropy, own_and_others
from utilities.ranges import NonNegative, Positive


class Softmax(ProxyCriterion):
    """Normalised softmax (Zhai and Wu, "Classification is a Strong Baseline for Deep Metric
    Learning", BMVC 2019):

        L = cross_entropy(z),   z_ik = c_ik / temperature

    x must have unit rows. Deviation: no class-balanced subsampling and no layer norm.

    Weights: as in the formula.
    """

    temperature: Positive = 0.05
    lr: NonNegative = 1e-5

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) below n_classes -> scalar."""
        z = cosine(x, self.proxies, 1 / self.temperature)  # (B, C)
        own, others = own_and_others(z, label)  # (B, 1), (B, C)
        return cross_entropy(own, others, weight)
