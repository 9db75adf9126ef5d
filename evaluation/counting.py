"""How many gallery rows come before given ones: tiles of similarities, compared with those of the given rows."""
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.exact import CELLS, exact_pairs, exact_similarity
from evaluation.threads import map_blocks

SIDE = 512      # rows and columns of a tile at most on the CPU, so that it stays in the processor's cache
BISECTED = 128   # more targets than this for each query: search among them instead of trying each
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
    Where query and gallery are the same object a tile serves its rows and its columns. Memory: 3 tiles a thread.
    """
    side = min(block, SIDE) if query.rows.device.type == "cpu" else block
    rows = _blocks(query, side)
    columns = rows if query is gallery else _blocks(gallery, side)
    tiles = [(a, b) for i, a in enumerate(rows) for b in (columns[i:] if rows is columns else columns)
             if a.side.target.numel() or b.side.target.numel()]
    before = torch.zeros_like(query.target)                                        # (Q, M)
    for (a, b), counts in zip(tiles, map_blocks(_count_tile, tiles, query.rows.device)):
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
        part = part._replace(target=part.target[:, :most], score=part.score[:, :most])
        blocks.append(Block(part, where, group[start], group[where.stop - 1]))
    return blocks


def _count_tile(pair: tuple[Block, Block]) -> list[Tensor]:
    """The counts (A, M) of the rows of a tile, and those of its columns where they have targets."""
    a, b = pair
    tile, *work = a.side.rows.new_empty(3, len(a.side.rows), len(b.side.rows))     # (A, B) each
    torch.mm(a.side.rows, b.side.rows.T, out=tile)
    if a.first <= b.last and b.first <= a.last:
        tile.masked_fill_(a.side.group[:, None] == b.side.group, -torch.inf)
    counts = [_count(tile, work, a.side, b.side)]
    if a is not b and b.side.target.numel():
        counts.append(_count(tile.T, [part.T for part in work], b.side, a.side))
    return counts


def _count(tile: Tensor, work: list[Tensor], query: Side, gallery: Side) -> Tensor:
    """rows_before for a tile of similarities (A, B), -inf where a row does not count; work: two tables like it."""
    score = query.score.clamp(min=torch.finfo(tile.dtype).min / 2)                 # (A, M)
    if not score.numel():
        return query.target
    count, close = _compare(tile, score, query.stray, work)                        # (A, M), (P, 2)
    exact = len(close) * CROWDED > tile.numel()
    if exact:
        tile = exact_similarity(query.rows, gallery.rows).masked_fill_(tile == -torch.inf, -torch.inf)
        count, close = _compare(tile, score, torch.zeros_like(query.stray), work)
    for i, j in (part.unbind(1) for part in close.split(max(1, CELLS // score.shape[1]))):
        fast = tile[i, j]                                                          # (P,)
        sure = fast if exact else exact_pairs(query.rows, gallery.rows, i, j)      # (P,)
        first = _above(sure, score[i]) + _level(sure, gallery.index[j], score[i], query.target[i])
        count.index_add_(0, i, first - _above(fast, score[i]))                     # counted right, as counted so far
    return count


def _above(similarity: Tensor, score: Tensor) -> Tensor:
    """1 where a row's similarity (P,) is greater than the score (P, M), else 0."""
    return (similarity[:, None] > score).long()


def _level(similarity: Tensor, index: Tensor, score: Tensor, target: Tensor) -> Tensor:
    """1 where a row ties with the target (P, M) and has the lower index, else 0."""
    return ((similarity[:, None] == score) & (index[:, None] < target)).long()


def _compare(tile: Tensor, score: Tensor, stray: Tensor, work: list[Tensor]) -> tuple[Tensor, Tensor]:
    """How many similarities (A, B) are greater than each of their row's scores (A, M), and the places (P, 2) of those
    within `stray` (A,) of one of them."""
    compare = _bisect if score.shape[1] > BISECTED else _try_each
    above, distance = compare(tile, score, *work)                                  # (A, M), (A, B)
    some = (distance.amin(1) <= stray).nonzero()[:, 0]                             # (S,)
    close = (distance[some] <= stray[some, None]).nonzero()                        # (P, 2)
    close[:, 0] = some[close[:, 0]]
    return above, close


def _try_each(tile: Tensor, score: Tensor, work: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """The number above each score (A, M), and the distance to the nearest score (A, B), one score after the other."""
    above = torch.empty_like(score, dtype=torch.long)
    distance.fill_(torch.inf)
    for m, level in enumerate(score.T.contiguous()[:, :, None]):                   # (A, 1), side by side in memory
        above[:, m] = torch.gt(tile, level, out=work).sum(1)   # compared into floats: much faster than into bools
        torch.minimum(distance, torch.sub(tile, level, out=work).abs_(), out=distance)
    return above, distance


def _bisect(tile: Tensor, score: Tensor, work: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """The same by a search for each similarity's place among the scores."""
    level = score.flip(1)                                                          # (A, M) ascending
    place = torch.searchsorted(level, tile.contiguous())                           # (A, B) how many scores lie below
    tally = place.new_zeros(len(tile), level.shape[1] + 1)
    tally.scatter_add_(1, place, place.new_ones(1, 1).expand_as(place))
    torch.sub(tile, level.gather(1, place.clamp(max=level.shape[1] - 1)), out=work).abs_()
    torch.sub(tile, level.gather(1, place.sub_(1).clamp_(min=0)), out=distance).abs_()
    return tally.flip(1).cumsum(1)[:, :-1], torch.minimum(distance, work, out=distance)
