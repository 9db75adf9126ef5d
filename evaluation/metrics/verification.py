"""Verification: how many pairs of one class a threshold rejects that accepts a share of others."""
import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from utilities.device import full_precision
from utilities.errors import RunError

# a float32 number from +0 up, read as an integer, is a key of 16 high and BITS low bits; keys sort
# as the numbers do
BITS = 15
BINS = 2**16
TILE = 1024, 4096  # rows and columns of a table of distances (32 MB in float64)
SAME = 1e-12       # squared distances up to this share of a row's squared length count as zero


@torch.no_grad()
def fnmr_at_fmr(embedding: Tensor, label: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """fnmr@<rate>: share of same-class pairs that a threshold rejects which accepts the `rate`
    nearest of the others.

    T: the rate-quantile (linear interpolation, as numpy.quantile) of the Euclidean distances of all
    pairs of different classes, each pair once; a same-class pair at T or beyond is rejected. Gives
    the rejected pairs and all pairs of each class, (C,) each; the metric is the ratio of their
    sums. All N^2 / 2 distances count and none is kept: two histograms show the exact order
    statistics, and each costs the float64 product of half the similarity matrix. Distances are
    rounded to float32 once; a pair closer than a millionth of its length is at distance zero.
    embedding (N, D), as given; label (N,).
    """
    rows, group, count = _class_by_class(embedding, label)
    end = count.cumsum(0)[group]  # (N,) where the row's class ends
    same = count * (count - 1) // 2
    different = _different_pairs(count)
    if not different or not same.any():
        raise RunError("evaluation: fnmr needs a pair of images of one class and a pair of two "
                       "classes; leave it out.")
    rejected = torch.zeros_like(same)
    with full_precision(rows.device):
        limit = _quantile(rows, end, rate, different)
        for own, distance, column in _tiles(rows, end, same_class=True):
            pair = (column > own[:, None]) & (column < end[own, None])  # i < j of one class
            far = (distance.double() >= limit) & pair
            rejected.index_add_(0, group[own], far.sum(1))
    return rejected.double(), same.double()


@torch.no_grad()
def distance_at_fmr(embedding: Tensor, label: Tensor, rate: float) -> float:
    """T of fnmr@<rate>: at less distance than this is the share `rate` of the pairs of two classes.

    embedding (N, D); label (N,). Raises RunError where all rows are of one class.
    """
    rows, group, count = _class_by_class(embedding, label)
    different = _different_pairs(count)
    if not different:
        raise RunError("A threshold needs rows of two classes, and these are of one.")
    with full_precision(rows.device):
        return _quantile(rows, count.cumsum(0)[group], rate, different)


def _class_by_class(embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows in the order of their classes (N, D), the class of each (N,), sizes of classes (C,)."""
    _, group, count = label.unique(return_inverse=True, return_counts=True)  # (N,), (C,)
    group, order = group.sort(stable=True)
    return embedding[order].double(), group, count


def _different_pairs(count: Tensor) -> int:
    """The number of pairs of two classes; count (C,)."""
    return int(count.sum()**2 - count.square().sum()) // 2


def _quantile(rows: Tensor, end: Tensor, rate: float, number: int) -> float:
    """The rate-quantile of the `number` distances between rows of different classes."""
    place = rate * (number - 1)
    rank = math.floor(place)
    until = _numbers_until(rows, end)  # (BINS,)

    @cache
    def until_in(high: int) -> Tensor:
        return until[high - 1:high].sum() + _numbers_until(rows, end, high)

    def distance(rank: int) -> float:
        high = int(torch.searchsorted(until, rank, right=True))
        low = int(torch.searchsorted(until_in(high), rank, right=True))
        key = torch.tensor((high << BITS) + low, dtype=torch.int32)
        return key.view(torch.float32).item()

    below = distance(rank)
    above = distance(min(rank + 1, number - 1))
    return below + (above - below) * (place - rank)


def _numbers_until(rows: Tensor, end: Tensor, high: int | None = None) -> Tensor:
    """How many distances between classes have at most these 16 high bits, (BINS,); with `high`,
    how many of those with these high bits have at most these low bits."""
    count = torch.zeros(BINS, dtype=torch.long, device=rows.device)
    for own, distance, column in _tiles(rows, end, same_class=False):
        key = distance.view(torch.int32)[column >= end[own, None]]  # (pairs,)
        value = key >> BITS
        if high is not None:
            value = key[value == high] & (2**BITS - 1)
        count += value.bincount(minlength=BINS)
    return count.cumsum(0)


def _tiles(rows: Tensor, end: Tensor,
           same_class: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Tables of distances in float32 that hold every pair i < j of one class, or of two, and others.

    The numbers of some rows (I,), their distances (I, J), the numbers of the other rows (J,).
    """
    length = rows.square().sum(1)  # (N,)
    number = torch.arange(len(rows), device=rows.device)
    for i in range(0, len(rows), TILE[0]):
        own = number[i:i + TILE[0]]
        first = i if same_class else int(end[i])
        stop = int(end[own[-1]]) if same_class else len(rows)
        own_length = length[own, None]
        for other in number[first:stop].split(TILE[1]):
            square = torch.addmm(length[other], rows[own], rows[other].T, alpha=-2)
            square.add_(own_length)
            square.masked_fill_(square <= SAME * own_length, 0)
            yield own, square.sqrt_().float(), other
