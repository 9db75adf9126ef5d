"""Verification: how many pairs of one class are rejected at a threshold that accepts a given share of the others."""
import math
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from utilities.device import full_precision
from utilities.errors import RunError

BINS = 2**18         # of a histogram of distances (2 MB)
KEYS = 2**31 - 1     # float32 numbers from +0 up, read as integers, sort alike and lie below
SAMPLE = 2048        # rows from which the place of a quantile is guessed
TILE = 1024, 4096    # rows and columns of a table of distances (32 MB in float64)
SAME = 1e-12         # squared distances up to this share of a row's squared length count as zero

Tally = Callable[[int, int], tuple[int, Tensor]]


@torch.no_grad()
def fnmr_at_fmr(embedding: Tensor, label: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """fnmr@<rate>: share of same-class pairs rejected by a threshold that accepts the `rate` nearest of the others.

    T: the rate-quantile (linear interpolation, as numpy.quantile) of the Euclidean distances of all pairs of different
    classes, each pair once; a same-class pair at T or beyond is rejected. Gives the rejected pairs and all pairs of
    each class, (C,) each; the metric is the ratio of their sums. All N^2 / 2 distances count and none is kept: a
    histogram around the guess of a sample shows the exact order statistics, in one pass where the guess is good, in
    three where it is not; a pass costs the float64 product of half the similarity matrix. Distances are rounded to
    float32 once; a pair closer than a millionth of its length is a duplicate, at distance zero.
    embedding (N, D), as given; label (N,).
    """
    _, group, count = label.unique(return_inverse=True, return_counts=True)        # (N,), (C,)
    group, order = group.sort(stable=True)                                         # class by class
    rows, end = embedding[order].double(), count.cumsum(0)[group]                  # (N, D), (N,) where its class ends
    same, different = count * (count - 1) // 2, int(len(group)**2 - count.square().sum()) // 2
    if not different or not same.any():
        raise RunError("evaluation: fnmr needs a pair of images of one class and a pair of two classes; leave it out.")
    rejected = torch.zeros_like(same)
    with full_precision(rows.device):
        limit = _not_below(_quantile(rows, end, rate, different))
        for own, distance, column in _tiles(rows, end, same_class=True):
            pair = (column > own[:, None]) & (column < end[own, None])             # (rows, columns) i < j of one class
            rejected.index_add_(0, group[own], ((distance >= limit) & pair).sum(1))
    return rejected.double(), same.double()


def _quantile(rows: Tensor, end: Tensor, rate: float, number: int) -> float:
    """The rate-quantile of the `number` distances between rows of different classes, rows sorted by class."""
    place = rate * (number - 1)
    ranks = [math.floor(place), min(math.floor(place) + 1, number - 1)]
    tally, guess = cache(partial(_tally, rows, end)), _guess(rows, end, rate)
    low, high = (_order_statistic(tally, rank, guess) for rank in ranks)
    return low + (high - low) * (place - ranks[0])


def _order_statistic(tally: Tally, rank: int, low: int) -> float:
    """The distance with `rank` smaller ones: looked for in BINS keys from `low` on, then below or above them."""
    width = 1                                                                      # keys in a bin
    while True:
        below, until = tally(low, width)                                           # int, (BINS,)
        if rank < below:
            low, width = 0, math.ceil(low / BINS)
        elif rank >= until[-1]:
            low, width = low + BINS * width, math.ceil((KEYS - low - BINS * width) / BINS)
        else:
            low += int(torch.searchsorted(until, rank, right=True)) * width
            if width == 1:
                return torch.tensor(low, dtype=torch.int32).view(torch.float32).item()
            width = 1


def _tally(rows: Tensor, end: Tensor, low: int, width: int) -> tuple[int, Tensor]:
    """Of the keys of all distances between classes: how many lie below `low`, and how many up to the end of each of
    BINS bins of `width` keys that start there, (BINS,)."""
    below, count = 0, torch.zeros(BINS, dtype=torch.long, device=rows.device)
    high = min(low + BINS * width, KEYS)
    for own, distance, column in _tiles(rows, end, same_class=False):
        key = distance.view(torch.int32).masked_fill_(column < end[own, None], KEYS)         # before: not in this order
        below += (key < low).sum()
        inside = key[(key >= low) & (key < high)]
        count += torch.bincount((inside - low) // width, minlength=BINS)
    return int(below), count.cumsum(0) + below


def _guess(rows: Tensor, end: Tensor, rate: float) -> int:
    """The key from which to look for the quantile: half of the bins below that of a sample."""
    which = torch.arange(0, len(rows), max(1, len(rows) // SAMPLE), device=rows.device)
    end = torch.searchsorted(which, end[which])                                    # (S,) in the sample
    parts = [distance[column >= end[own, None]] for own, distance, column in _tiles(rows[which], end, same_class=False)]
    distance = torch.cat(parts) if parts else rows.new_empty(0)                    # (pairs,)
    if not len(distance):
        return 0
    middle = distance.kthvalue(1 + int(rate * (len(distance) - 1))).values
    return max(0, int(middle.view(torch.int32)) - BINS // 2)


def _tiles(rows: Tensor, end: Tensor, same_class: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Tables of distances in float32 that hold every pair i < j of one class, or of two, and others: the numbers of
    some rows (I,), their distances (I, J), the numbers of those that they are compared with (J,)."""
    length, number = rows.square().sum(1), torch.arange(len(rows), device=rows.device)       # (N,), (N,)
    for i in range(0, len(rows), TILE[0]):
        own = slice(i, min(i + TILE[0], len(rows)))
        first, stop = (i, int(end[own.stop - 1])) if same_class else (int(end[i]), len(rows))
        for j in range(first, stop, TILE[1]):
            other = slice(j, min(j + TILE[1], stop))
            square = torch.addmm(length[other], rows[own], rows[other].T, alpha=-2).add_(length[own, None])
            square.masked_fill_(square <= SAME * length[own, None], 0)             # (I, J)
            yield number[own], square.sqrt_().float(), number[other]


def _not_below(value: float) -> float:
    """The least float32 number that is not below `value`."""
    nearest = torch.tensor(value, dtype=torch.float32)
    return (nearest if nearest.item() >= value else nearest.nextafter(torch.tensor(torch.inf))).item()
