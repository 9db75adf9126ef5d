"""Pairs that are harder than the easiest of the other sign."""
import torch
from torch import Tensor

from batchminer.all_triplets import combinations
from batchminer.base import Miner, Triplets
from utilities.pairwise import pair_masks, similarity, unit
from utilities.ranges import Finite, PositiveInt


class MultiSimilarityMiner(Miner):
    """Pair mining of the multi-similarity loss (Wang et al., CVPR 2019, eq. 11 and 12), S the
    cosine:

        P_a = {p: S_ap - eps < max_n S_an},   N_a = {n: S_an + eps > min_p S_ap}

    Every p of P_a is combined with every n of N_a; above `cap` triplets a uniformly random subset
    of that size. Deviation: the paper keeps the two sets apart.
    """

    eps: Finite = 0.1
    cap: PositiveInt = 65536

    one_per_anchor = False

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        u = unit(x)
        s = similarity(u[:anchors], u)  # (A, N)
        positive, negative = hard_pairs(s, label, anchors, self.eps)  # (A, N) each
        sizes = positive.sum(-1), negative.sum(-1)  # (A,) each
        anchor, i, j = combinations(*sizes, self.cap, generator)  # (T,) each
        positive = nth(positive, anchor, i)  # (T,)
        negative = nth(negative, anchor, j)  # (T,)
        return Triplets(anchor, positive, negative)


def hard_pairs(
    s: Tensor, label: Tensor, anchors: int | None, margin: float
) -> tuple[Tensor, Tensor]:
    """The masks of P_a and N_a for similarities s, (A, N) each."""
    positive, negative = pair_masks(label, anchors)  # (A, N) each
    hardest_negative = s.masked_fill(~negative, -torch.inf).amax(-1, keepdim=True)  # (A, 1)
    hardest_positive = s.masked_fill(~positive, torch.inf).amin(-1, keepdim=True)  # (A, 1)
    harder_positive = s - margin < hardest_negative  # (A, N)
    harder_negative = s + margin > hardest_positive  # (A, N)
    return positive & harder_positive, negative & harder_negative


def nth(mask: Tensor, row: Tensor, k: Tensor) -> Tensor:
    """The column of the k-th true entry of each of the given rows (T,) of a mask (A, N)."""
    count = mask.sum(-1)  # (A,)
    first = count.cumsum(0) - count  # (A,)
    column = mask.nonzero()[:, 1]
    return column[first[row] + k]  # (T,)
