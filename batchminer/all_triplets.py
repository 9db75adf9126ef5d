"""Every admissible triplet."""
import torch
from torch import Tensor

from batchminer.base import ClassBlocks, Miner, Triplets
from utilities.errors import UsageError


class AllTriplets(Miner):
    """Every (a, p, n) with y_p = y_a != y_n, in the order of a ("batch all", Hermans et al., 2017).

    cap: above this number a uniformly random subset of that size, without replacement. Memory: O(N + cap), never
    A x N x N; the number of triplets is read back from the device.
    """

    one_per_anchor = False

    def __init__(self, seed: int = 0, cap: int = 65536):
        super().__init__(seed)
        self.cap = checked_cap(cap, "--miner_all_cap")

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        anchor, i, j = combinations(blocks.positives, blocks.negatives, self.cap, generator)
        return Triplets(anchor, blocks.positive(i, anchor), blocks.negative(j, anchor))


def checked_cap(cap: int, flag: str) -> int:
    """The cap, which must leave room for a triplet."""
    if cap < 1:
        raise UsageError(f"{flag} {cap} must be 1 or more.")
    return cap


def combinations(positives: Tensor, negatives: Tensor, cap: int | None, generator) -> tuple[Tensor, Tensor, Tensor]:
    """Anchor, number of its positive and number of its negative, for every combination of the given counts (A,); beyond
    `cap` (None: never) for a uniformly random subset of them; (T,) each."""
    count = positives * negatives  # (A,)
    total = int(count.sum())
    every = cap is None or total <= cap
    number = torch.arange(total, device=count.device) if every else subset(total, cap, generator)  # (T,)
    ends = count.cumsum(0)  # (A,)
    anchor = torch.searchsorted(ends, number, right=True)  # (T,)
    within, width = number - (ends - count)[anchor], negatives[anchor]  # (T,) each
    return anchor, within // width, within % width


def subset(total: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` different whole numbers below `total`, every set alike, in O(size) memory.

    Where most numbers are wanted a permutation is cut; else draws with replacement are collected until they have
    enough values, which are a random set given their number, and so is a random part of them.
    """
    device = generator.device
    if total <= 4 * size:
        return torch.randperm(total, generator=generator, device=device)[:size]  # (size,)
    number = torch.empty(0, dtype=torch.long, device=device)
    while len(number) < size:
        more = torch.randint(total, (2 * size,), generator=generator, device=device)
        number = torch.cat([number, more]).unique()
    return number[torch.randperm(len(number), generator=generator, device=device)[:size]]
