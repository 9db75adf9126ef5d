"""The exact similarity on which every ranking agrees, and the rounding errors of faster ones.

The similarity of two rows is their inner product in float64, rounded to float32. Near zero, where
terms cancel, it is rounded to GRID of the rows' lengths. Equal similarities tie, and ties go to
the lower index. The last bits of a float32 matrix product depend on the library, the device and
the block size. It therefore decides only differences above `slack`; float64 decides the others.
"""
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

CELLS = 2**22    # entries of a table of similarities (32 MB in float64)
SCRATCH = 2**18  # numbers of a temporary that stays in a CPU's cache
GRID = 2.0**-30  # of the product of two rows' lengths
SHORT = 1e-30    # length that stands for zero


def exact_similarity(query: Tensor, gallery: Tensor) -> Tensor:
    """The similarity of each query row and gallery row, (Q, N) float32, the same on any device."""
    query = query.double()
    gallery = gallery.double()
    length = _length(query)[:, None]
    return _rounded(query @ gallery.T, length, _length(gallery))  # (Q, N)


def pair_products(query: Tensor, gallery: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """The float32 inner product of query row i[p] and gallery row j[p] for every p, (P,)."""
    step = max(1, SCRATCH // query.shape[1])
    pairs = zip(i.split(step), j.split(step))
    return torch.cat([torch.linalg.vecdot(query[a], gallery[b]) for a, b in pairs])


def exact_pairs(query: Tensor, gallery: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """exact_similarity of query row i[p] and gallery row j[p] for every p, (P,)."""
    step = max(1, SCRATCH // query.shape[1])
    value = query.new_empty(len(i))
    for part in torch.arange(len(i)).split(step):
        a = query[i[part]].double()  # (step, D)
        b = gallery[j[part]].double()
        value[part] = _rounded((a * b).sum(1), _length(a), _length(b))
    return value


def _rounded(product: Tensor, length: Tensor, other_length: Tensor) -> Tensor:
    grid = GRID * length * other_length
    return ((product / grid).round_() * grid).float()


def _length(rows: Tensor) -> Tensor:
    """The power of two nearest to the length of each row, (N,): dividing by it is exact."""
    return rows.norm(dim=1).clamp(min=SHORT).log2().round().exp2()


def row_blocks(rows: Tensor, block: int, width: int = 1) -> Iterator[tuple[int, Tensor]]:
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
