"""From the candidates of a fast search to the exact nearest rows."""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from evaluation.ranking.exact import exact_pairs, exact_scores, row_blocks
from evaluation.ranking.rows import Rows

# rows (B, D), m -> score (B, m) descending, index (B, m)
Propose = Callable[[Tensor, int], tuple[Tensor, Tensor]]
# a search, and its rounding error for rows of length one
Step = tuple[Propose, Tensor]


def rescore(rows: Rows, gallery: Rows, steps: list[Step], k: int, wanted: int,
            itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The exact first k gallery rows of each row, (B, k) scores in float64, and indices.

    The first step proposes `wanted` candidates. Candidates whose scores differ by less than the
    rounding error are scored again in float64. Where row k is that close to the last candidate,
    a row that was not proposed may be among the first k: the next step searches again, and
    after the last step the whole gallery is scored.
    """
    if not steps:
        return _exhaustive(rows, gallery, k, itself)
    (propose, error), *rest = steps
    tolerance = rows.product.norm(dim=1) * error  # (B,)
    score, index = propose(rows.product, wanted)  # (B, m), (B, m)
    score = score.double() - rows.offset[:, None]
    cut = score[:, -1]
    if itself is not None:
        score, index = without(score, index, itself)  # (B, m - 1)
    open_end = (score[:, k - 1] - cut <= tolerance) & (wanted < len(gallery))  # (B,)
    tolerance = tolerance.masked_fill(open_end, -1)
    score, index = _ranked(rows, gallery, score, index, tolerance, k)
    again = open_end.nonzero()[:, 0]
    for _, part in row_blocks(again, len(rows), len(gallery)):
        own = None if itself is None else itself[part]
        score[part], index[part] = rescore(rows[part], gallery, rest, k, wanted, own)
    return score, index


def without(score: Tensor, index: Tensor, itself: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates without the query itself, or without the last where it is not among them."""
    own = index[:, :-1] == itself[:, None]  # (B, m - 1)
    column = torch.arange(own.shape[1], device=own.device)
    order = column + own.cumsum(1)
    return score.gather(1, order), index.gather(1, order)


def _ranked(rows: Rows, gallery: Rows, score: Tensor, index: Tensor, tolerance: Tensor,
            k: int) -> tuple[Tensor, Tensor]:
    """The first k candidates; those within `tolerance` (B,) of the next get exact scores."""
    close = score[:, :-1] - score[:, 1:] <= tolerance[:, None]  # (B, m - 1)
    unsure = pad(close, (0, 1)) | pad(close, (1, 0))  # (B, m)
    i, column = unsure.nonzero(as_tuple=True)
    score[i, column] = exact_pairs(rows, gallery, i, index[i, column])
    return _sorted(score, index, k)


def _sorted(score: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k by score, ties by the lower index: two stable sorts."""
    index, order = index.sort(dim=1)
    score = score.gather(1, order)
    score, place = score.sort(dim=1, descending=True, stable=True)
    index = index.gather(1, place)
    return score[:, :k], index[:, :k]  # (B, k), (B, k)


def _exhaustive(rows: Rows, gallery: Rows, k: int,
                itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first k of the whole gallery: above the k-th score, then at it, lowest index first."""
    score = exact_scores(rows, gallery)  # (B, N)
    if itself is not None:
        score.scatter_(1, itself[:, None], -torch.inf)
    last = score.topk(k, dim=1).values[:, -1:]  # (B, 1)
    above = score > last
    level = score == last
    room = k - above.sum(1, keepdim=True)
    keep = above | (level & (level.cumsum(1) <= room))
    index = keep.nonzero()[:, 1].view(-1, k)
    return _sorted(score.gather(1, index), index, k)
