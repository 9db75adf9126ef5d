"""Supervised contrastive loss: every positive against all other images."""
import torch
from torch import Tensor

from criteria.base import Criterion, masked_weights, pair_masks, weighted_logsumexp
from utilities.pairwise import identity, similarity


class SupCon(Criterion):
    """Supervised contrastive loss (Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2, L_out):

        l_i = -1/|P_i| sum_{p in P_i} w+_ip [ s_ip - log( sum_{P_i} exp(s_ip) + sum_{N_i} w-_in exp(s_in) ) ]
        s = x x^T / t,   L = mean_i l_i   over the anchors i that have a positive

    t = temperature. x is used as given: unit rows, from the network, make s a cosine over t. Deviation: one view of an
    image, so an anchor may lack a positive; the mean leaves it out.

    Weights: w+ scales the log-probability of a positive (the mean stays over |P_i|), w- multiplies the exponential of a
    negative in the denominator, where every positive counts once.
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        self.temperature = temperature

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x) / self.temperature  # (A, N)
        positive, negative = pair_masks(label, anchors)  # (A, N) each
        w_negative = None if weight[1] is None else torch.where(negative, weight[1].to(x.dtype), 1)  # (A, N)
        denominator = weighted_logsumexp(s, w_negative, ~identity(label, anchors))  # (A,)
        surprise = (denominator[:, None] - s) * masked_weights(weight[0], positive, x.dtype)  # (A, N)
        size = positive.sum(-1)  # (A,)
        return (surprise.sum(-1) / size.clamp(min=1)).sum() / (size > 0).sum().clamp(min=1)
