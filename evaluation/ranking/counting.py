"""How many gallery rows come before given ones: tiles of similarities, compared with those of the given rows."""
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.ranking.exact import SIDE, exact_pairs, exact_similarity, places
from evaluation.ranking.rough import blur, has_fast_bfloat16, products, rough, rounded
from evaluation.ranking.threads import map_blocks

FEW = 16         # no more than one similarity in so many may come before a target: look at those alone
BISECTED = 256   # more targets than this for each query: search among them instead of trying each
SCRATCH = 2**20  # numbers of a temporary
LOWEST = torch.finfo(torch.float32).min / 2   # stands for no target: less than any similarity, more than -inf
ROUNDS = 8       # how often targets that already stand too far back are given up
CROWDED = 16     # one similarity in so many too close to call: compute the tile exactly
SAMPLED = 64     # rows that tell whether rough similarities settle most of a block
ROUGH = 32       # they do where no more than one in so many may come before a target, or fewer with more than SOME
SOME = 8         # targets


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


class Factor(NamedTuple):
    """Rows to multiply (B, D), how far a product of each may stray (B,), and the least that may come before one of its
    targets (B,), infinite where there is none."""

    rows: Tensor
    stray: Tensor
    floor: Tensor


class Block(NamedTuple):
    """Some rows of a side and where they stand there, with their first and their last class; what to multiply, and what
    to multiply before that in bfloat16, where it is fast and settles most."""

    side: Side
    where: slice
    first: int
    last: int
    plain: Factor
    rough: Factor | None


def rows_before(query: Side, gallery: Side, block: int, limit: Tensor) -> Tensor:
    """The number (Q, M) of gallery rows of other classes that come before each target: more similar, or as similar with
    a lower index; it means nothing where there is no target. It may be too small where it exceeds limit (M,), since
    such a target is not followed to the end.

    Tiles of similarities have `block` rows and columns, on the CPU SIDE at most, where each has a thread of its own.
    Where query and gallery are the same object a tile serves its rows and its columns. Memory: 2 tiles and some tables
    of SCRATCH numbers a thread, some 8 tiles more where there are more than BISECTED targets, and a copy of the rows in
    bfloat16 where the processor multiplies it.
    """
    cpu, mirror = query.rows.device.type == "cpu", query is gallery
    size, halves = min(block, SIDE) if cpu else block, _halves(query, gallery)
    before = torch.zeros_like(query.target)                                        # (Q, M)
    number = [-(-len(side.rows) // size) for side in (query, gallery)]
    rounds = ROUNDS if 2 * limit.min() < len(gallery.rows) else 1
    for met in _rounds(*number, mirror, rounds):
        rows = _blocks(query, size, *halves)
        columns = rows if mirror else _blocks(gallery, size, *halves[::-1])
        tiles = [(rows[i], columns[j]) for i, j in met]
        for (a, b), counts in zip(tiles, map_blocks(_count_tile, tiles, cpu)):
            for part, count in zip((a, b), counts):
                before[part.where, :count.shape[1]] += count
        query = query._replace(score=query.score.masked_fill(before > limit, -torch.inf))
        gallery = query if mirror else gallery
    return before


def _rounds(rows: int, columns: int, mirror: bool, rounds: int) -> list[list[tuple[int, int]]]:
    """The tiles in rounds, in each of which every block meets about as many others."""
    far = columns // 2 + 1 if mirror else columns
    tiles = [[(i, (i + apart) % columns) for i in range(rows) if not mirror or 2 * apart < columns or i < apart]
             for apart in range(far)]
    each = -(-far // rounds)
    return [sum(tiles[start:start + each], []) for start in range(0, far, each)]


def _halves(query: Side, gallery: Side) -> list[tuple[Tensor, Tensor] | None]:
    """The rows of either side in bfloat16 and how far their products may stray, where that is faster; the rows of a
    gallery apart are ranked only, and nothing is compared with their products."""
    if not has_fast_bfloat16(query.rows.device):
        return [None, None]
    first = rough(query.rows)
    second = first if query is gallery else rough(gallery.rows)
    asking = first.rows, blur(first, second, query.stray)
    return [asking, asking if query is gallery else (second.rows, gallery.stray)]


def _blocks(side: Side, size: int, half: tuple[Tensor, Tensor] | None, other: tuple[Tensor, Tensor] | None) -> \
        list[Block]:
    """The side in blocks of rows, each with as many columns of targets as it fills."""
    plain, quick = _factor(side, side.rows, side.stray), half and _factor(side, *half)
    group, filled = side.group.tolist(), side.score.isfinite().sum(1).tolist()
    blocks = []
    for start in range(0, len(group), size):
        where = slice(start, min(start + size, len(group)))
        part, most = Side(*(value[where] for value in side)), max(filled[where])
        part = part._replace(target=part.target[:, :most], score=part.score[:, :most].clamp(min=LOWEST))
        slow, fast = (factor and Factor(*(value[where] for value in factor)) for factor in (plain, quick))
        fast = None if fast and _crowded(fast, other[0], most) else fast
        blocks.append(Block(part, where, group[start], group[where.stop - 1], slow, fast))
    return blocks


def _factor(side: Side, rows: Tensor, stray: Tensor) -> Factor:
    """The side's rows (B, D), exact or in bfloat16, with what their products are compared with."""
    real = side.score.isfinite()                                                   # (B, M)
    floor = side.score.masked_fill(~real, torch.inf)
    floor = torch.cat([floor, torch.full_like(stray, torch.inf)[:, None]], 1).amin(1) - stray      # (B,)
    return Factor(rows, stray, rounded(floor) if rows.dtype == torch.bfloat16 else floor)


def _crowded(factor: Factor, other: Tensor, targets: int) -> bool:
    """Whether so many rough products, as far as some of the other rows tell, may come before one of so many targets
    that products in float32 cost less."""
    some = other[::max(1, len(other) // SAMPLED)]                                  # (S, D)
    near = (factor.rows @ some.T).float() >= factor.floor[:, None]                 # (B, S)
    return int(near.sum()) * ROUGH * max(1, targets / SOME) > near.numel()


def _count_tile(pair: tuple[Block, Block]) -> list[Tensor]:
    """The counts (A, M) of the rows of a tile, and those of its columns where they have targets."""
    a, b = pair
    if not a.side.target.numel() and not b.side.target.numel():
        return [a.side.target]
    quick = a.rough is not None and b.rough is not None
    x, y = (a.rough, b.rough) if quick else (a.plain, b.plain)
    tile = (x.rows @ y.rows.T).float()                                             # (A, B)
    if a.first <= b.last and b.first <= a.last:
        tile.masked_fill_(a.side.group[:, None] == b.side.group, -torch.inf)
    near = tile >= x.floor[:, None]                                                # (A, B)
    if a is not b:
        near |= tile >= y.floor
    i, j = places(near)                                                            # (P,), (P,)
    most = max(part.side.target.shape[1] for part in pair)
    few = len(i) * FEW * max(1, most / BISECTED) <= tile.numel()
    if quick and not few:
        plain = a._replace(rough=None)
        return _count_tile((plain, plain if a is b else b))
    counts = [_count_pairs(tile, a.side, b.side, i, j, x) if few else _count_all(tile, a.side, b.side)]
    if a is not b and b.side.target.numel():
        counts.append(_count_pairs(tile.T, b.side, a.side, j, i, y) if few else _count_all(tile.T, b.side, a.side))
    return counts


def _count_pairs(tile: Tensor, query: Side, gallery: Side, i: Tensor, j: Tensor, factor: Factor) -> Tensor:
    """rows_before for a tile of similarities (A, B), of which only those at i, j (P,) may come before a target."""
    count = torch.zeros_like(query.target)                                         # (A, M)
    upper, lower = query.score + factor.stray[:, None], query.score - factor.stray[:, None]  # (A, M)
    quick = factor.rows.dtype == torch.bfloat16
    if quick:
        upper, lower = rounded(upper), rounded(lower)
    step, count_rest = max(1, SCRATCH // max(1, count.shape[1])), _count_closer if quick else _count_unsure
    for row, column in zip(i.split(step), j.split(step)):
        score = tile[row, column][:, None]                                         # (P, 1)
        sure = score > upper[row]                                                  # (P, M) certainly before
        count.index_add_(0, row, sure.long())
        at, m = ((score >= lower[row]) & ~sure).nonzero(as_tuple=True)             # (U,), (U,)
        count_rest(count, query, gallery, row[at], column[at], m)
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


def _count_closer(count: Tensor, query: Side, gallery: Side, i: Tensor, j: Tensor, m: Tensor) -> None:
    """_count_unsure, in float32 first."""
    score, target, stray = products(query.rows, gallery.rows, i, j), query.score[i, m], query.stray[i]       # (P,)
    sure = score > target + stray
    count.index_put_((i, m), sure.long(), accumulate=True)
    left = ~sure & (score >= target - stray)                                       # (P,)
    _count_unsure(count, query, gallery, i[left], j[left], m[left])


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
