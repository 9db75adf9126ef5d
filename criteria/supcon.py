"""Supervised contrastive loss: every positive against all other images."""
import torch

from criteria.base import PairCriterion
from utilities.pairwise import (
    identity,
    masked_mean,
    masked_weight,
    pair_masks,
    similarity,
    weighted_logsumexp,
)
from utilities.ranges import Positive


class SupCon(PairCriterion):
    """Supervised contrastive loss (Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020,
    eq. 2, L_out):

        L = mean_i l_i   over the anchors i that have a positive,   z = s / temperature
        l_i = -1/|P_i| sum_{p in P_i} w+_ip
              [z_ip - log(sum_{P_i} exp(z_ip) + sum_{N_i} w-_in exp(z_in))]

    Deviation: one view of an image, so an anchor may lack a positive.

    Weights: as in the formula.
    """

    temperature: Positive = 0.1

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x) / self.temperature  # (A, N)
        positive, negative = pair_masks(label, anchors)  # (A, N) each
        others = ~identity(label, anchors)  # (A, N)
        w_negative = weight.negative
        if w_negative is not None:
            w_negative = torch.where(negative, w_negative.to(x.dtype), 1)  # (A, N)
        log_denominator = weighted_logsumexp(s, w_negative, others)  # (A,)
        surprise = log_denominator[:, None] - s  # (A, N)
        surprise = surprise * masked_weight(weight.positive, positive, x.dtype)
        return masked_mean(masked_mean(surprise, positive, -1), positive.any(-1))
