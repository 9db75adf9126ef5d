"""From what a fast search proposes to the exact nearest rows."""
from collections.abc import Callable

import torch
from torch import Tensor

from evaluation.ranking.exact import exact_pairs, exact_similarity, row_blocks

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]     # rows (B, D), m -> score (B, m) descending, index (B, m)
Step = tuple[Search, Tensor]                                # a search, and how far its scores stray for each query


def settle(rows: Tensor, gallery: Tensor, steps: list[Step], k: int, wanted: int,
            itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The exact first k of the candidates that the first step proposes, sorted by a score that is off by rounding.

    Where scores next to each other differ by more than rounding can explain their order is certain; the others are
    scored again. Where row k is that close to the last candidate, a row never proposed may belong to the first k, and
    the next step has its turn; after the last one, the whole gallery is scored.
    """
    (search, stray), *rest = steps
    score, index = search(rows, wanted)                                            # (B, m), (B, m)
    cut = score[:, -1]                                                             # (B,) no row left out scores more
    if itself is not None:
        score, index = _without(score, index, itself)                              # (B, m - 1)
    crowded = (score[:, k - 1] - cut <= stray) & (wanted < len(gallery))           # (B,)
    again = crowded.nonzero()[:, 0]                                                # (A,)
    score, index = _ranked(rows, gallery, score, index, stray.masked_fill(crowded, -1), k)
    for _, part in row_blocks(again, len(again), len(gallery)):
        alone = None if itself is None else itself[part]
        left = [(search, stray[part]) for search, stray in rest]
        score[part], index[part] = (settle(rows[part], gallery, left, k, wanted, alone) if left else
                                    _exhaustive(rows[part], gallery, k, alone))
    return score, index


def _without(score: Tensor, index: Tensor, itself: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates less the query itself, or less the last where it is not among them; (B, m - 1) each."""
    column = torch.arange(score.shape[1] - 1, device=score.device)                 # (m - 1,)
    own = index[:, :-1] == itself[:, None]                                         # (B, m - 1)
    order = column + own.cumsum(1)                                                 # (B, m - 1)
    return score.gather(1, order), index.gather(1, order)


def _ranked(rows: Tensor, gallery: Tensor, score: Tensor, index: Tensor, stray: Tensor,
            k: int) -> tuple[Tensor, Tensor]:
    """The first k candidates, those within `stray` (B,) of a neighbour in the list by their exact score."""
    close = score[:, :-1] - score[:, 1:] <= stray[:, None]                         # (B, m - 1)
    edge = close.new_zeros(len(rows), 1)
    unsure = torch.cat([close, edge], 1) | torch.cat([edge, close], 1)             # (B, m)
    found, order = score[:, :k].clone(), index[:, :k].clone()
    which = unsure.any(1).nonzero()[:, 0]                                          # (W,)
    i, column = unsure[which].nonzero(as_tuple=True)                               # (P,), (P,)
    score, index = score[which], index[which]
    score[i, column] = exact_pairs(rows[which], gallery, i, index[i, column])
    found[which], order[which] = _sorted(score, index, k)
    return found, order                                                            # (B, k), (B, k)


def _sorted(score: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k by score, ties by the lower index: two stable sorts."""
    index, order = index.sort(dim=1)
    score, place = score.gather(1, order).sort(dim=1, descending=True, stable=True)
    return score[:, :k], index.gather(1, place)[:, :k]                             # (B, k), (B, k)


def _exhaustive(rows: Tensor, gallery: Tensor, k: int, itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first k of the whole gallery: all rows above the k-th similarity and the lowest indices of those at it."""
    score = exact_similarity(rows, gallery)                                        # (B, N)
    if itself is not None:
        score.scatter_(1, itself[:, None], -torch.inf)
    last = score.topk(k, dim=1).values[:, -1:]                                     # (B, 1)
    above, level = score > last, score == last                                     # (B, N), (B, N)
    room = k - above.sum(1, keepdim=True)                                          # (B, 1)
    keep = above | (level & (level.cumsum(1) <= room))
    index = keep.nonzero()[:, 1].view(-1, k)                                       # (B, k) ascending
    return _sorted(score.gather(1, index), index, k)
