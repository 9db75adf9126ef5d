"""Similarities of record, and the rounding of the fast ones: what every ranking of this folder agrees on.

The similarity of two rows is their inner product, computed in float64 and rounded to float32, or to GRID of the rows'
lengths near zero, where the terms cancel and leave float64's own rounding; equal numbers tie, and ties go to the lower
index. The last bits of a float32 matrix product depend on the library, the device and the block size, so it decides
only what it decides by more than `slack`; the rest is scored again in float64.
"""
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

CELLS = 2**22           # entries of a table of similarities (32 MB in float64); long galleries get fewer rows a block
SIDE = 768              # rows and columns of a tile of them on the CPU, so that it stays in the processor's cache
SCRATCH = 2**18         # numbers of a temporary that stays in the processor's cache
GRID = 2.0**-30         # of the product of two rows' lengths: a billionth
DENSE = 8               # one pair in so many to be scored again: cheaper as a matrix product of all


def exact_similarity(query: Tensor, gallery: Tensor) -> Tensor:
    """Inner products rounded from float64: the same float32 number in any block, on any device."""
    query, gallery = query.double(), gallery.double()
    return _rounded(query @ gallery.T, _length(query)[:, None], _length(gallery))  # (Q, N)


def exact_pairs(query: Tensor, gallery: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """exact_similarity of query row i[p] and gallery row j[p] for every p, (P,)."""
    if len(i) * DENSE > len(query) * len(gallery):
        parts = [exact_similarity(rows, gallery) for _, rows in row_blocks(query, len(query), len(gallery))]
        return torch.cat(parts)[i, j]                                              # (P,)
    value, step = query.new_empty(len(i)), max(1, SCRATCH // query.shape[1])
    for start in range(0, len(i), step):
        part = slice(start, start + step)
        a, b = query[i[part]].double(), gallery[j[part]].double()                  # (step, D), (step, D)
        value[part] = _rounded((a * b).sum(1), _length(a), _length(b))
    return value


def _rounded(product: Tensor, *length: Tensor) -> Tensor:
    """Inner products of rows of about these lengths, rounded as said above."""
    grid = GRID * length[0] * length[1]
    return ((product / grid).round_() * grid).float()


def _length(rows: Tensor) -> Tensor:
    """The power of two nearest to the length of each row (N, D), so that dividing by it is exact; (N,)."""
    return rows.norm(dim=1).clamp(min=1e-30).log2().round().exp2()


def row_blocks(query: Tensor, block: int, width: int = 1) -> Iterator[tuple[int, Tensor]]:
    """Consecutive blocks of query rows with the number of their first row: `block` rows, or fewer where a table of
    (rows, width) would exceed CELLS entries."""
    rows = max(1, min(block, CELLS // width))
    for start in range(0, len(query), rows):
        yield start, query[start:start + rows]                                     # (rows, D)


def places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of what is true in a mask (A, B); NumPy finds a few among many in a tenth of the time."""
    if mask.is_cuda:
        return mask.nonzero(as_tuple=True)
    place = torch.from_numpy(np.flatnonzero(mask.numpy()))                         # (P,)
    row = place // mask.shape[1]
    return row, place - row * mask.shape[1]


def slack(query: Tensor, gallery: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """How far two products of each query row with a gallery row may stray apart, (Q,), when computed in `dtype`.

    float32: several times the largest error ever seen, sqrt(D) roundings of partial sums. Half precision: also what
    rounding the two rows, a partial sum and the product can cost at worst.
    """
    error = (query.shape[1] ** 0.5 + 4) * torch.finfo(torch.float32).eps
    if dtype != torch.float32:
        error += 4 * torch.finfo(dtype).eps
    return query.norm(dim=1) * gallery.norm(dim=1).max() * error                   # (Q,)


def euclidean(query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (Q, D + 2), (N, D + 2) whose inner product q.g - |g|^2 / 2 falls as the Euclidean distance of q and g grows.

    The half square is split in two float32 columns, so that nothing of it is lost, and both are scaled by a power of
    two near the longest row, so that no column outgrows the others.
    """
    scale = 2.0 ** gallery.norm(dim=1).max().clamp(min=1e-30).log2().round()
    square = [part.double().square().sum(1) for _, part in row_blocks(gallery, len(gallery), gallery.shape[1])]
    half = torch.cat(square) / (2 * scale)                                         # (N,) float64
    high = half.float()
    low = (half - high.double()).float()
    one = scale.expand(len(query), 2)
    return torch.cat([query, one], 1), torch.cat([gallery, -high[:, None], -low[:, None]], 1)
