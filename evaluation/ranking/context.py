"""Context from the collection: each row, plus the weighted mean of the rows nearest to it.

    ctx(e_i) = unit(e_i + sum_j w_ij e_j),   w_ij = s_ij^p / sum_l s_il^p,   s_ij = max(e_i . e_j, 0)

e: rows of length one; j and l: the K rows of the collection nearest to row i, which is left out;
p: the power. A row without a neighbour of similarity above zero stays as it is.

For the rows of a collection this is database-side augmentation (Turcot & Lowe, "Better matching
with fewer features", ICCV Workshops 2009; Arandjelovic & Zisserman, "Three things everyone should
know to improve object retrieval", CVPR 2012). For a query it is alpha query expansion (Radenovic,
Tolias & Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019). These add a
weighted sum of neighbours. Here it is a mean: the neighbours together count as much as the row.
"""
import torch
from torch import Tensor

from evaluation.ranking.exact import row_blocks
from evaluation.ranking.neighbours import SearchOptions, check_finite, neighbour_blocks
from evaluation.ranking.rescore import without
from evaluation.ranking.spaces import exact_unit, searched
from utilities.errors import UsageError
from utilities.ranges import NonNegative, positive_int, refuse
from utilities.text import counted

FLAG = "--eval_context"


@torch.no_grad()
def with_context(rows: Tensor, gallery: Tensor | None, neighbours: int, power: float,
                 **options) -> tuple[Tensor, Tensor | None]:
    """Rows (Q, D) and gallery (N, D) or None, all with context, as rows of length one.

    Without a gallery the rows are the collection. With one the gallery is, and a row takes no other
    row's context. options: those of SearchOptions; the neighbours do not depend on them. Memory:
    that of a search, the result, and some tables of CELLS numbers.
    """
    collection = rows if gallery is None else gallery
    itself = torch.arange(len(collection), device=collection.device)
    augmented = add_neighbours(collection, collection, neighbours, power, itself=itself, **options)
    if gallery is None:
        return augmented, None
    return add_neighbours(rows, gallery, neighbours, power, **options), augmented


@torch.no_grad()
def add_neighbours(rows: Tensor, collection: Tensor, neighbours: int, power: float, *,
                   itself: Tensor | None = None, **options) -> Tensor:
    """Rows (Q, D) with the context of a collection (N, D); (Q, D) of length one.

    itself (Q,): the number of each row in the collection, where it is left out, or -1; None: none
    of them is in it.
    """
    check_neighbours(neighbours, len(collection))
    refuse(f"{FLAG}_power", NonNegative, power)
    check_finite(collection, "gallery")
    check_finite(rows, "query")
    gallery = None if rows is collection else collection
    query, among = searched(rows, gallery, cosine=True)
    k = int(neighbours) + (itself is not None)
    found = neighbour_blocks(query, among, k, None, SearchOptions(**options))
    exact = rows.dtype == torch.float64
    augmented = torch.empty(rows.shape, dtype=rows.dtype if exact else torch.float32, device=rows.device)
    for place, score, index in found:
        if itself is not None:
            _, index = without(score, index, itself[place])
        augmented[place] = _in_blocks(rows[place], collection, index, power)
    return augmented


def check_neighbours(neighbours: int, size: int) -> None:
    """A UsageError where a row of a collection of this size has not so many others."""
    if not positive_int.has(neighbours):
        raise UsageError(f"{FLAG}: {positive_int.problem(neighbours)}.")
    if neighbours >= size:
        raise UsageError(f"{FLAG} {neighbours}: the collection has {counted(size, 'image')}; pass at most "
                         f"{max(size - 1, 0)}, where 0 is no context.")


def _in_blocks(rows: Tensor, collection: Tensor, index: Tensor, power: float) -> Tensor:
    """Rows (B, D) and their neighbours index (B, K), some rows at a time -> (B, D) float64."""
    width = index.shape[1] * rows.shape[1]
    parts = []
    for start, some in row_blocks(index, len(index), width):
        own = rows[start:start + len(some)]
        near = collection[some]
        parts.append(_mixed(own, near, power))
    return torch.cat(parts)


def _mixed(rows: Tensor, near: Tensor, power: float) -> Tensor:
    """Rows (B, D) and their neighbours (B, K, D), of any length -> (B, D) float64."""
    shape = near.shape
    row = exact_unit(rows)
    near = exact_unit(near.flatten(0, 1)).view(shape)  # (B, K, D)
    cosine = torch.einsum("bd,bkd->bk", row, near)
    largest = cosine.amax(1, keepdim=True)
    # a power of the share of the largest does not underflow
    share = cosine / largest
    weight = torch.where(cosine > 0, share ** power, 0)  # (B, K)
    # at least one, unless all are zero
    total = weight.sum(1, keepdim=True).clamp(min=1)
    mean = torch.einsum("bk,bkd->bd", weight / total, near)
    return exact_unit(row + mean)
