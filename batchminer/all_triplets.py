"""Every admissible triplet."""
import torch
from torch import Tensor

from batchminer.base import ClassBlocks, Miner, Triplets
from utilities.ranges import PositiveInt


class AllTriplets(Miner):
    """Every (a, p, n) with y_p = y_a != y_n ("batch all", Hermans et al., arXiv 2017).

    Above `cap` triplets a uniformly random subset of that size. Memory: O(N + cap).
    """

    cap: PositiveInt = 65536

    one_per_anchor = False
    flag = "--miner_all_"

    def mine(self, x, label, generator, anchors):
        """x (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        sizes = blocks.positives, blocks.negatives  # (A,) each
        anchor, i, j = combinations(*sizes, self.cap, generator)  # (T,) each
        positive = blocks.positive(i, anchor)  # (T,)
        negative = blocks.negative(j, anchor)  # (T,)
        return Triplets(anchor, positive, negative)


def combinations(
    positives: Tensor, negatives: Tensor, cap: int | None, generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Anchor, number of its positive and number of its negative, (T,) each.

    One for every combination of the given counts (A,); beyond `cap` (None: never) for a uniformly
    random subset of them.
    """
    count = positives * negatives  # (A,)
    total = int(count.sum())
    if cap is None or total <= cap:
        number = torch.arange(total, device=count.device)  # (T,)
    else:
        number = subset(total, cap, generator)  # (T,)
    ends = count.cumsum(0)  # (A,)
    anchor = torch.searchsorted(ends, number, right=True)  # (T,)
    within = number - (ends - count)[anchor]  # (T,)
    width = negatives[anchor]  # (T,)
    return anchor, within // width, within % width


def subset(total: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` different whole numbers below `total`, every set alike, in O(size) memory.

    Where most numbers are wanted a permutation is cut. Else draws with replacement are collected
    until they have enough values. These are a random set given their number, and so is a random
    part of them.
    """
    options = {"generator": generator, "device": generator.device}
    if total <= 4 * size:
        return torch.randperm(total, **options)[:size]  # (size,)
    number = torch.empty(0, dtype=torch.long, device=generator.device)
    while len(number) < size:
        more = torch.randint(total, (2 * size,), **options)
        number = torch.cat([number, more]).unique()
    order = torch.randperm(len(number), **options)
    return number[order[:size]]
