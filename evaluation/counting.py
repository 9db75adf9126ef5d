"""How many gallery rows come before given ones: tiles of similarities, compared with those of the given rows."""
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.exact import exact_pairs, exact_similarity
from evaluation.threads import map_blocks

SIDE = 512      # rows and columns of a tile at most on the CPU, so that it stays in the processor's cache
BISECTED = 256   # more targets than this for each query: search among them instead of trying each
SCRATCH = 2**20  # similarities looked at again at once
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
    """Some rows of a side and where they stand there, with their first and their last class."""

    side: Side
    where: slice
    first: int
    last: int


def rows_before(query: Side, gallery: Side, block: int) -> Tensor:
    """The number (Q, M) of gallery rows of other classes that come before each target: more similar, or as similar with
    a lower index; it means nothing where there is no target.

    Tiles of similarities have `block` rows and columns, on the CPU SIDE at most, where each has a thread of its own.
    Where query and gallery are the same object a tile serves its rows and its columns. Memory: 2 tiles a thread, some
    8 more where there are more than BISECTED targets.
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
    group, filled = side.group.tolist(), side.score.isfinite().sum(1).tolist()
    blocks = []
    for start in range(0, len(group), rows):
        where = slice(start, min(start + rows, len(group)))
        part, most = Side(*(value[where] for value in side)), max(filled[where])
        part = part._replace(target=part.target[:, :most], score=part.score[:, :most].clamp(min=LOWEST))
        blocks.append(Block(part, where, group[start], group[where.stop - 1]))
    return blocks


def _count_tile(pair: tuple[Block, Block]) -> list[Tensor]:
    """The counts (A, M) of the rows of a tile, and those of its columns where they have targets."""
    a, b = pair
    tile, work = a.side.rows.new_empty(2, len(a.side.rows), len(b.side.rows))      # (A, B) each
    torch.mm(a.side.rows, b.side.rows.T, out=tile)
    if a.first <= b.last and b.first <= a.last:
        tile.masked_fill_(a.side.group[:, None] == b.side.group, -torch.inf)
    counts = [_count(tile, work, a.side, b.side)]
    if a is not b and b.side.target.numel():
        counts.append(_count(tile.T, work.T, b.side, a.side))
    return counts


def _count(tile: Tensor, work: Tensor, query: Side, gallery: Side) -> Tensor:
    """rows_before for a tile of similarities (A, B), -inf where a row does not count; work: a table like it."""
    if not query.target.numel():
        return query.target
    upper, lower = query.score + query.stray[:, None], query.score - query.stray[:, None]    # (A, M)
    count = _above(tile, upper, False, work)                                       # (A, M) certainly before
    unsure = _above(tile, lower, True, work) - count                               # (A, M)
    if int(unsure.sum()) * CROWDED > tile.numel():
        return _count_exactly(exact_similarity(query.rows, gallery.rows).where(tile > -torch.inf, -torch.inf), query,
                              gallery)
    for i, m in (part.unbind(1) for part in unsure.nonzero().split(max(1, SCRATCH // tile.shape[1]))):
        near = tile[i]                                                             # (U, B)
        at, j = ((near >= lower[i, m, None]) & (near <= upper[i, m, None])).nonzero(as_tuple=True)     # (P,), (P,)
        i, m = i[at], m[at]
        sure = exact_pairs(query.rows, gallery.rows, i, j)                         # (P,)
        first = _before(sure, gallery.index[j], query.score[i, m], query.target[i, m])
        count.index_put_((i, m), first.long(), accumulate=True)
    return count


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
