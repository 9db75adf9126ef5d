"""Proxy-NCA: near the proxy of the own class, far from all others."""


from criteria.proxies import ProxyCriterion, cosine, own_and_others, weighted
from utilities.pairwise import unit
from utilities.ranges import NonNegative, Positive


class ProxyNCA(ProxyCriterion):
    """Proxy-NCA (Movshovitz-Attias et al., "No Fuss Distance Metric Learning using Proxies", ICCV
    2017, eq. 4):

        L = mean_i [w+_i d_iy^2 + w-_i log sum_{k!=y} exp(-d_ik^2)]
        d_ik = scale |x_i/|x_i| - p_k/|p_k||

    With include_positive the sum runs over all proxies, so that the term is a cross-entropy
    (ProxyNCA++ of Teh et al., ECCV 2020). With one class the second term is zero. Deviation: scale
    3 as in the base framework; the paper has 1.

    Weights: as in the formula.
    """

    scale: Positive = 3.0
    include_positive: bool = False
    lr: NonNegative = 5e-4

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) below n_classes -> scalar."""
        # d^2 = 2 r^2 - 2 r^2 cos
        most = 2 * self.scale**2
        s = cosine(unit(x), self.proxies, most)  # (B, C)
        own, others = own_and_others(s, label)  # (B, 1), (B, C)
        rivals = s if self.include_positive else others  # (B, C)
        near = most - own  # (B, 1)
        far = rivals.logsumexp(-1, keepdim=True) - most  # (B, 1)
        if self.n_classes == 1 and not self.include_positive:
            far = 0 * own
        near = weighted(near, weight.positive)
        far = weighted(far, weight.negative)
        return (near + far).mean()
