"""ArcFace: classification by the cosine to proxies of classes, with a margin on the own angle."""
import math

import torch

from criteria.proxies import ProxyCriterion, cosine, cross_entropy, own_and_others
from utilities.pairwise import root
from utilities.ranges import NonNegative, Positive


class ArcFace(ProxyCriterion):
    """ArcFace (Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR
    2019, eq. 3):

        L = cross_entropy(z),   theta_ik = arccos c_ik
        z_iy = s cos(theta_iy+m),   z_ik = s c_ik for k != y

    s = feature_scale, m = angular_margin in radians. x must have unit rows. Deviation: where
    `theta_iy > pi - m`, `z_iy = s (c_iy - m sin m)`, as in the authors' code. The paper's formula
    rises again there and pushes such an image farther away.

    Weights: as in the formula.
    """

    angular_margin: NonNegative = 0.5
    feature_scale: Positive = 16.0
    lr: NonNegative = 5e-4

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) below n_classes -> scalar."""
        m = self.angular_margin
        s = self.feature_scale
        s_cos = cosine(x, self.proxies, s)  # (B, C)
        own, others = own_and_others(s_cos, label)  # (B, 1), (B, C)
        s_sin = root((s - own) * (s + own))  # (B, 1)
        within = own * math.cos(m) - s_sin * math.sin(m)  # (B, 1)
        beyond = own - s * m * math.sin(m)  # (B, 1)
        z_own = torch.where(own >= -s * math.cos(m), within, beyond)  # (B, 1)
        return cross_entropy(z_own, others, weight)
