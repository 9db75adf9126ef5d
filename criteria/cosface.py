"""CosFace: classification by the cosine to a proxy of each class, the own one less a margin."""


from criteria.proxies import ProxyCriterion, cosine, cross_entropy, own_and_others
from utilities.ranges import NonNegative, Positive


class CosFace(ProxyCriterion):
    """CosFace (Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR
    2018, eq. 4):

        L = cross_entropy(z),   z_ik = scale (c_ik - margin [k = y])

    x must have unit rows.

    Weights: as in the formula.
    """

    margin: NonNegative = 0.35
    scale: Positive = 64.0
    lr: NonNegative = 1e-2

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) below n_classes -> scalar."""
        z = cosine(x, self.proxies, self.scale)  # (B, C)
        own, others = own_and_others(z, label)  # (B, 1), (B, C)
        return cross_entropy(own - self.scale * self.margin, others, weight)
