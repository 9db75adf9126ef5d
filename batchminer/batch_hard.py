"""The hardest positive and negative of each anchor."""
import torch

from batchminer.base import Miner, admissible, is_in
from utilities.pairwise import distance, pair_masks


class BatchHard(Miner):
    """Batch-hard mining (Hermans et al., "In Defense of the Triplet Loss for Person
    Re-Identification", arXiv 2017):

        p = argmax_{y_p=y_a} d_ap,   n = argmin_{y_n!=y_a} d_an

    Among equals the first counts.
    """

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        d = distance(x, anchors)  # (A, N)
        positive, negative = pair_masks(label, anchors)  # (A, N) each
        p = d.masked_fill(~positive, -torch.inf).argmax(-1)  # (A,)
        n = d.masked_fill(~negative, torch.inf).argmin(-1)  # (A,)
        has_both = is_in(positive, p) & is_in(negative, n)  # (A,)
        return admissible(has_both, p, n)
