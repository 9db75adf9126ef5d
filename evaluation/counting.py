"""How many gallery rows come before given ones: tiles of similarities, compared with those of the given rows."""
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.exact import SIDE, exact_pairs, exact_similarity
from evaluation.threads import map_blocks

FEW = 16         # no more than one similarity in so many may come before a target: look at those alone
BISECTED = 256   # more targets than this for each query: search among them instead of trying each
SCRATCH = 2**20  # numbers of a temporary
LOWEST = torch.finfo(torch.float32).min / 2   # stands for no target: less than any similarity, more than -inf
CROWDED = 16     # one similarity in so many too close to call: compute the tile exactly


class Side(NamedTuple):
    """Rows (B, D), sorted by class: their classes (B,), numbers that ascend, and their indices (B,). What each has to
    rank: indices (B, M) and exact similarities (B, M) of targets, descending, -inf where there is none, M = 0 where
    rows only are ranked; and how far a float32 similarity of the row may stray (B,)."""

    rows: Tensor
    group: Tensor
    index: Tensor
    target: Tensor
    score: Tensor
    stray: Tensor


class Block(NamedTuple):
    """Some rows of a side and where they stand there, with their first and their last class, and the least float32
    similarity that may come before a target of each (B,), infinite where there is none."""

    side: Side
    where: slice
    first: int
    last: int
    floor: Tensor


def rows_before(query: Side, gallery: Side, block: int) -> Tensor:
    """The number (Q, M) of gallery rows of other classes that come before each target: more similar, or as similar with
    a lower index; it means nothing where there is no target.

    Tiles of similarities have `block` rows and columns, on the CPU SIDE at most, where each has a thread of its own.
    Where query and gallery are the same object a tile serves its rows and its columns. Memory: 2 tiles and some tables
    of SCRATCH numbers a thread, some 8 tiles more where there are more than BISECTED targets.
    """
    side = min(block, SIDE) if query.rows.device.type == "cpu" else block
    rows = _blocks(query, side)
    columns = rows if query is gallery else _blocks(gallery, side)
    tiles = [(a, b) for i, a in enumerate(rows) for b in (columns[i:] if rows is columns else columns)
             if a.side.target.numel() or b.side.target.numel()]
    before = torch.zeros_like(query.target)                                        # (Q, M)
    for (a, b), counts in zip(tiles, map_blocks(_count_tile, tiles, query.rows.device.type == "cpu")):
        for part, count in zip((a, b), counts):
            before[part.where, :count.shape[1]] += count
    return before


def _blocks(side: Side, rows: int) -> list[Block]:
    """The side in blocks of rows, each with as many columns of targets as it fills."""
    real = side.score.isfinite()                                                   # (B, M)
    floor = side.score.masked_fill(~real, torch.inf)
    floor = torch.cat([floor, torch.full_like(side.stray, torch.inf)[:, None]], 1).amin(1) - side.stray      # (B,)
    group, filled = side.group.tolist(), real.sum(1).tolist()
    blocks = []
    for start in range(0, len(group), rows):
        where = slice(start, min(start + rows, len(group)))
        part, most = Side(*(value[where] for value in side)), max(filled[where])
        part = part._replace(target=part.target[:, :most], score=part.score[:, :most].clamp(min=LOWEST))
        blocks.append(Block(part, where, group[start], group[where.stop - 1], floor[where]))
    return blocks


def _count_tile(pair: tuple[Block, Block]) -> list[Tensor]:
    """The counts (A, M) of the rows of a tile, and those of its columns where they have targets."""
    a, b = pair
    tile = a.side.rows @ b.side.rows.T                                             # (A, B)
    if a.first <= b.last and b.first <= a.last:
        tile.masked_fill_(a.side.group[:, None] == b.side.group, -torch.inf)
    near = tile >= a.floor[:, None]                                                # (A, B)
    if a is not b:
        near |= tile >= b.floor
    i, j = _places(near)                                                           # (P,), (P,)
    most = max(part.side.target.shape[1] for part in pair)
    few = len(i) * FEW * max(1, most / BISECTED) <= tile.numel()
    counts = [_count_pairs(tile, a.side, b.side, i, j) if few else _count_all(tile, a.side, b.side)]
    if a is not b and b.side.target.numel():
        counts.append(_count_pairs(tile.T, b.side, a.side, j, i) if few else _count_all(tile.T, b.side, a.side))
    return counts


def _places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of what is true in a mask (A, B); NumPy finds a few among many in a tenth of the time."""
    if mask.is_cuda:
        return mask.nonzero(as_tuple=True)
    place = torch.from_numpy(np.flatnonzero(mask.numpy()))                         # (P,)
    row = place // mask.shape[1]
    return row, place - row * mask.shape[1]


def _count_pairs(tile: Tensor, query: Side, gallery: Side, i: Tensor, j: Tensor) -> Tensor:
    """rows_before for a tile of similarities (A, B), of which only those at i, j (P,) may come before a target."""
    count = torch.zeros_like(query.target)                                         # (A, M)
    upper, lower = query.score + query.stray[:, None], query.score - query.stray[:, None]    # (A, M)
    step = max(1, SCRATCH // max(1, count.shape[1]))
    for row, column in zip(i.split(step), j.split(step)):
        score = tile[row, column][:, None]                                         # (P, 1)
        sure = score > upper[row]                                                  # (P, M) certainly before
        count.index_add_(0, row, sure.long())
        at, m = ((score >= lower[row]) & ~sure).nonzero(as_tuple=True)             # (U,), (U,)
        _count_unsure(count, query, gallery, row[at], column[at], m)
    return count


def _count_all(tile: Tensor, query: Side, gallery: Side) -> Tensor:
    """rows_before for a tile of similarities (A, B), -inf where a row does not count."""
    if not query.target.numel():
        return query.target
    work = torch.empty_like(tile)
    upper, lower = query.score + query.stray[:, None], query.score - query.stray[:, None]    # (A, M)
    count = _above(tile, upper, False, work)                                       # (A, M) certainly before
    unsure = _above(tile, lower, True, work) - count                               # (A, M)
    if int(unsure.sum()) * CROWDED > tile.numel():
        return _count_exactly(exact_similarity(query.rows, gallery.rows).where(tile > -torch.inf, -torch.inf), query,
                              gallery)
    for i, m in (part.unbind(1) for part in unsure.nonzero().split(max(1, SCRATCH // tile.shape[1]))):
        near = tile[i]                                                             # (U, B)
        at, j = ((near >= lower[i, m, None]) & (near <= upper[i, m, None])).nonzero(as_tuple=True)     # (P,), (P,)
        _count_unsure(count, query, gallery, i[at], j, m[at])
    return count


def _count_unsure(count: Tensor, query: Side, gallery: Side, i: Tensor, j: Tensor, m: Tensor) -> None:
    """Add to the count (A, M) the gallery rows j[p] that come before target m[p] of query i[p], by exact similarity."""
    sure = exact_pairs(query.rows, gallery.rows, i, j)                             # (P,)
    first = _before(sure, gallery.index[j], query.score[i, m], query.target[i, m])
    count.index_put_((i, m), first.long(), accumulate=True)


def _count_exactly(tile: Tensor, query: Side, gallery: Side) -> Tensor:
    """The same for exact similarities."""
    return torch.stack([_before(tile, gallery.index, score[:, None], target[:, None]).sum(1)
                        for score, target in zip(query.score.T, query.target.T)], 1)         # (A, M)


def _before(similarity: Tensor, index: Tensor, score: Tensor, target: Tensor) -> Tensor:
    """Whether a row comes before the target: more similar, or as similar with a lower index."""
    return (similarity > score) | ((similarity == score) & (index < target))


def _above(tile: Tensor, level: Tensor, equal: bool, work: Tensor) -> Tensor:
    """How many similarities (A, B) are greater than each of their row's levels (A, M), which descend, or equal."""
    if level.shape[1] > BISECTED:
        return _above_by_bisection(tile, level, equal)
    compare = torch.ge if equal else torch.gt
    levels = level.T.contiguous()[:, :, None]                                      # (M, A, 1)
    return torch.stack([compare(tile, one, out=work).sum(1) for one in levels], 1).long()    # floats: faster than bools


def _above_by_bisection(tile: Tensor, level: Tensor, equal: bool) -> Tensor:
    """The same by a search for each similarity's place among the levels."""
    place = torch.searchsorted(level.flip(1), tile.contiguous(), right=equal)      # (A, B) how many levels lie below
    tally = place.new_zeros(len(tile), level.shape[1] + 1)
    tally.scatter_add_(1, place, place.new_ones(1, 1).expand_as(place))
    return tally.flip(1).cumsum(1)[:, :-1]
