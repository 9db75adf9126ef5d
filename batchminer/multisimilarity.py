"""Pairs that are harder than the easiest of the other sign."""
import torch
from torch import Tensor

from batchminer.all_triplets import checked_cap, combinations
from batchminer.base import Miner, Triplets
from utilities.pairwise import negative_mask, positive_mask, similarity, unit


class MultiSimilarityMiner(Miner):
    """Pair mining of the multi-similarity loss (Wang et al., CVPR 2019, eq. 11 and 12), S the cosine:

        P_a = {p: S_ap - eps < max_n S_an},   N_a = {n: S_an + eps > min_p S_ap}

    The paper keeps the two sets apart. Here every p of P_a is combined with every n of N_a (P_a is empty exactly where
    N_a is), so that each mined pair takes part and nothing is random. Above `cap` triplets a uniformly random subset of
    that size. Several triplets an anchor.
    """

    one_per_anchor = False

    def __init__(self, seed: int = 0, eps: float = 0.1, cap: int = 65536):
        super().__init__(seed)
        self.eps, self.cap = eps, checked_cap(cap, "--miner_multisimilarity_cap")

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D), label (N,) -> Triplets."""
        u = unit(embedding)
        s = similarity(u[:anchors], u)  # (A, N)
        positive, negative = positive_mask(label, anchors), negative_mask(label, anchors)  # (A, N) each
        hardest_negative = s.masked_fill(~negative, -torch.inf).amax(-1, keepdim=True)  # (A, 1)
        hardest_positive = s.masked_fill(~positive, torch.inf).amin(-1, keepdim=True)  # (A, 1)
        positive &= s - self.eps < hardest_negative
        negative &= s + self.eps > hardest_positive
        anchor, i, j = combinations(positive.sum(-1), negative.sum(-1), self.cap, generator)  # (T,) each
        return Triplets(anchor, nth(positive, anchor, i), nth(negative, anchor, j))


def nth(mask: Tensor, row: Tensor, k: Tensor) -> Tensor:
    """The column of the k-th true entry of each of the given rows (T,) of a mask (A, N)."""
    count = mask.sum(-1)  # (A,)
    return mask.nonzero()[:, 1][(count.cumsum(0) - count)[row] + k]  # (T,)
