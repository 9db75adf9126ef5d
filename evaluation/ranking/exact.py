"""The exact score on which every ranking agrees, and the rounding errors of faster ones.

The similarity of two rows is their inner product in float64, rounded to float32. Near zero, where
terms cancel, it is rounded to GRID of the rows' lengths. The score is minus half the squared
distance that follows from it. Of two rows so close that the product leaves too few digits, it is
that of their difference in float64. Equal scores tie, and ties go to the lower index. The last bits
of a float32 matrix product depend on the library, the device and the block size. It therefore
decides only differences above `slack`; float64 decides the others.
"""
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from evaluation.ranking.rows import Rows

CELLS = 2**22    # entries of a table of similarities (32 MB in float64)
SCRATCH = 2**18  # numbers of a temporary that stays in a CPU's cache
GRID = 2.0**-30  # of the product of two rows' lengths
SHORT = 1e-30    # length that stands for zero
# half a squared distance below this share of the two lengths is that of the difference
NEAR = 2.0**-8
BITS = 48        # of such a distance; the order of the dimensions shows in later ones


def exact_scores(query: Rows, gallery: Rows) -> Tensor:
    """The score of each query row and gallery row, (Q, N) float64, the same on any device."""
    a = query.product.double()
    b = gallery.product.double()
    length = _length(a)[:, None] * _length(b)  # (Q, N)
    score = _rounded(a @ b.T, length)
    if query.given is None:
        return score
    score -= query.offset[:, None]
    near = _is_near(query, score, length)
    for row in near.any(1).nonzero()[:, 0].tolist():
        column = near[row].nonzero()[:, 0]
        score[row, column] = _near_scores(query.given[row:row + 1], gallery.given[column])
    return score  # (Q, N)


def exact_pairs(query: Rows, gallery: Rows, i: Tensor, j: Tensor) -> Tensor:
    """The score of query row i[p] and gallery row j[p] for every p, (P,) float64."""
    step = max(1, SCRATCH // query.product.shape[1])
    score = torch.empty(len(i), dtype=torch.float64, device=i.device)
    offset = query.offset
    for part in torch.arange(len(i)).split(step):
        own = i[part]
        other = j[part]
        a = query.product[own].double()  # (step, D)
        b = gallery.product[other].double()
        length = _length(a) * _length(b)
        value = _rounded((a * b).sum(1), length) - offset[own]
        if query.given is not None:
            near = _is_near(query, value, length)
            value[near] = _near_scores(query.given[own[near]], gallery.given[other[near]])
        score[part] = value
    return score


def _is_near(query: Rows, score: Tensor, length: Tensor) -> Tensor:
    """Which scores the difference decides; length: of the two rows, multiplied."""
    share = torch.inf if query.narrow else NEAR
    return score > -share * length


def _near_scores(a: Tensor, b: Tensor) -> Tensor:
    """Minus half the squared distances of rows a (P or 1, D) and b (P, D), (P,) float64."""
    square = (a.double() - b.double()).square_().sum(1)
    grid = 2.0**-BITS * square.clamp(min=SHORT**2).log2().floor().exp2()
    return (square / grid).round_() * grid / -2


def pair_products(query: Tensor, gallery: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """The float32 inner product of query row i[p] and gallery row j[p] for every p, (P,)."""
    step = max(1, SCRATCH // query.shape[1])
    pairs = zip(i.split(step), j.split(step))
    return torch.cat([torch.linalg.vecdot(query[a], gallery[b]) for a, b in pairs])


def _rounded(product: Tensor, length: Tensor) -> Tensor:
    """Products as similarities, float64; length: of the two rows, multiplied."""
    grid = GRID * length
    return ((product / grid).round_() * grid).float().double()


def _length(rows: Tensor) -> Tensor:
    """The power of two nearest to the length of each row, (N,): dividing by it is exact."""
    return rows.norm(dim=1).clamp(min=SHORT).log2().round().exp2()


def row_blocks(rows: Tensor | Rows, block: int,
               width: int = 1) -> Iterator[tuple[int, Tensor | Rows]]:
    """The rows in blocks, each with the number of its first row.

    A block has `block` rows, or fewer where a table (rows, width) would exceed CELLS entries.
    """
    size = max(1, min(block, CELLS // width))
    for start in range(0, len(rows), size):
        yield start, rows[start:start + size]


def not_below(similarity: Tensor, level: Tensor) -> Tensor:
    """Which similarities (A, B) reach their level (A, B)."""
    if similarity.is_cuda:
        return similarity >= level
    # NumPy takes a third of the time
    return torch.from_numpy(similarity.numpy() >= level.numpy())


def places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each true entry of a mask (A, B)."""
    if mask.is_cuda:
        return mask.nonzero(as_tuple=True)
    # where few are true, NumPy takes a tenth of the time
    place = torch.from_numpy(np.flatnonzero(mask.numpy()))  # (P,)
    row = place // mask.shape[1]
    return row, place - row * mask.shape[1]


def rounding_error(gallery: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """How far apart two products with a gallery row may be when computed in `dtype`, for a query
    of length one; 0-d.

    float32: several times the largest error ever seen, sqrt(D) roundings of partial sums. Half
    precision: also the worst rounding of the two rows, a partial sum and the product.
    """
    error = (gallery.shape[1] ** 0.5 + 4) * torch.finfo(torch.float32).eps
    if dtype != torch.float32:
        error += 4 * torch.finfo(dtype).eps
    return gallery.norm(dim=1).max() * error


def slack(query: Tensor, gallery: Tensor) -> Tensor:
    """The rounding error of float32 products of each query row, (Q,)."""
    return query.norm(dim=1) * rounding_error(gallery)
