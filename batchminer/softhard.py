"""Soft-hard positives and negatives: any that violate the order, not the worst."""
import torch

from batchminer.base import BEYOND, Miner, admissible, draw
from utilities.pairwise import distance, pair_masks


class Softhard(Miner):
    """Soft-hard mining (base framework, Roth et al., "Revisiting Training Strategies", ICML 2020):
    positive and negative independently and uniformly among those that break the order,

        d_ap > min_n d_an,   d_an < max_p d_ap

    Where none does, among all of that sign.
    """

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        d = distance(x, anchors)  # (A, N)
        positive, negative = pair_masks(label, anchors)  # (A, N) each
        nearest = d.masked_fill(~negative, torch.inf).amin(-1, keepdim=True)  # (A, 1)
        farthest = d.masked_fill(~positive, -torch.inf).amax(-1, keepdim=True)  # (A, 1)
        p, has_positive = draw(positive, generator, BEYOND * (d > nearest))  # (A,) each
        n, has_negative = draw(negative, generator, BEYOND * (d < farthest))  # (A,) each
        return admissible(has_positive & has_negative, p, n)
