"""How many gallery rows come before given ones: tiles of similarities, compared with theirs."""
from collections.abc import Callable
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.ranking.exact import (
    exact_pairs,
    exact_scores,
    not_below,
    pair_products,
    places,
)
from evaluation.ranking.rough import has_fast_bfloat16, rough, rough_tolerance
from evaluation.ranking.rows import Rows
from evaluation.ranking.threads import TILE_SIDE, map_blocks

SCRATCH = 2**20  # numbers of a temporary
# one similarity in so many may come before a target: then only those are compared
FEW = 16
# the same for products in bfloat16, and for each target of theirs
FEW_ROUGH = 32
FEW_ROUGH_A_TARGET = 4
CROWDED = 16     # one similarity in so many is too close to call: the tile is computed exactly


class Side(NamedTuple):
    """Rows sorted by class, what each has to rank, and what has been counted."""

    rows: Rows              # (B, D)
    group: Tensor           # (B,) classes, as ascending numbers
    index: Tensor           # (B,) of the rows in their set
    target: Tensor          # (B, M) indices of gallery rows of the class
    score: Tensor           # (B, M) their exact scores, infinite where there is no target
    before: Tensor          # (B, M) gallery rows of other classes that come before each target
    tolerance: Tensor       # (B,) rounding error of a float32 similarity
    fast: Tensor            # (B, D) the products of rows as they are multiplied first: float32 or bfloat16
    fast_tolerance: Tensor  # (B,) rounding error of such a product


def new_side(rows: Rows, group: Tensor, index: Tensor, target: Tensor, score: Tensor,
             tolerance: Tensor) -> Side:
    """A side with nothing counted yet, to be multiplied in float32."""
    before = torch.zeros_like(target)
    return Side(rows, group, index, target, score, before, tolerance, rows.product, tolerance)


def rows_before(query: Side, gallery: Side, block: int, limit: Tensor) -> Tensor:
    """The number (Q, M) of gallery rows of other classes that come before each target.

    Such a row is more similar, or as similar with a lower index. Tiles of similarities have
    `block` rows and columns, on the CPU at most TILE_SIDE; there each has a thread of its own.
    Where query and gallery are the same object a tile serves its rows and its columns. Targets with
    more rows before them than limit (M,) are given up: their numbers are too small, and their
    scores become infinite. Memory: two tiles and some tables of SCRATCH numbers a thread, and a
    copy of the rows in bfloat16.
    """
    cpu = query.index.device.type == "cpu"
    size = min(block, TILE_SIDE) if cpu else block
    mirror = query is gallery
    query, gallery = _with_rough_rows(query, gallery)
    blocks = _blocks(query, size)
    if mirror:
        pairs = list(combinations_with_replacement(blocks, 2))
    else:
        pairs = list(product(blocks, _blocks(gallery, size)))
    for pair, counts in zip(pairs, map_blocks(_count_tile, pairs, cpu)):
        for side, count in zip(pair, counts):
            columns = count.shape[1]
            before = side.before[:, :columns]
            before += count
            # the blocks are views, so that tiles to come leave these targets out; a tile that reads
            # a score just before only counts more for a target that is given up
            side.score[:, :columns].masked_fill_(before > limit[:columns], torch.inf)
    return query.before


def _with_rough_rows(query: Side, gallery: Side) -> tuple[Side, Side]:
    """The same sides, to be multiplied in bfloat16 first where that is fast."""
    if not has_fast_bfloat16(query.index.device):
        return query, gallery
    asking = rough(query.rows.product)
    asked = asking if query is gallery else rough(gallery.rows.product)
    tolerance = rough_tolerance(asking, asked, query.tolerance)
    fast_query = query._replace(fast=asking.rows, fast_tolerance=tolerance)
    return fast_query, fast_query if query is gallery else gallery._replace(fast=asked.rows)


def _blocks(side: Side, size: int) -> list[Side]:
    """Views of the side, `size` rows each."""
    columns = [value.split(size) for value in side]
    return [Side(*values) for values in zip(*columns)]


def _count_tile(pair: tuple[Side, Side]) -> list[Tensor]:
    """The counts of the rows of a tile, and those of its columns where these are other rows."""
    first, second = pair
    a = _filled(first)
    b = a if second is first else _filled(second)
    tile = (a.fast @ b.fast.T).float()  # (A, B)
    if a.group[0] <= b.group[-1] and b.group[0] <= a.group[-1]:
        tile.masked_fill_(a.group[:, None] == b.group, -torch.inf)
    lowest = _lowest(a)[:, None].minimum(_lowest(b))  # (A, B)
    i, j = places(not_below(tile, lowest))  # (P,), (P,)
    rough_tile = a.fast.dtype == torch.bfloat16
    share = FEW
    if rough_tile:
        targets = max(a.score.shape[1], b.score.shape[1])
        share = max(FEW_ROUGH, FEW_ROUGH_A_TARGET * targets)
    few = len(i) * share <= tile.numel()
    if rough_tile and not few:
        plain = _in_float32(a)
        return _count_tile((plain, plain if a is b else _in_float32(b)))
    counts = [_count_pairs(a, b, tile, i, j) if few else _count_all(a, b, tile)]
    if a is not b:
        counts.append(_count_pairs(b, a, tile.T, j, i) if few else _count_all(b, a, tile.T))
    return counts


def _filled(side: Side) -> Side:
    """The side with as many columns of scores as its rows fill, one at least."""
    most = int(side.score.isfinite().sum(1).max())
    return side._replace(score=side.score[:, :max(1, most)])


def _in_float32(side: Side) -> Side:
    return side._replace(fast=side.rows.product, fast_tolerance=side.tolerance)


def _lowest(side: Side) -> Tensor:
    """The least product that may come before a target of the row, (B,)."""
    lower, _ = _levels(side)
    return lower.amin(1)


def _levels(side: Side) -> tuple[Tensor, Tensor]:
    """Products below the first are less than the target's similarity, those above the second are
    more, (B, M) each."""
    dtype = side.fast.dtype
    tolerance = side.fast_tolerance[:, None]
    score = (side.score + side.rows.offset[:, None]).float()
    lower = (score - tolerance).to(dtype)
    upper = (score + tolerance).to(dtype)
    return lower.float(), upper.float()


def _count_pairs(query: Side, gallery: Side, tile: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """The counts (A, M) of a tile (A, B), of which only i, j (P,) may come before a target."""
    lower, upper = _levels(query)
    count = torch.zeros_like(lower, dtype=torch.long)
    step = max(1, SCRATCH // count.shape[1])
    for row, column in zip(i.split(step), j.split(step)):
        score = tile[row, column][:, None]  # (P, 1)
        sure = score > upper[row]  # (P, M)
        count.index_add_(0, row, sure.long())
        unsure = (score >= lower[row]) & ~sure
        at, m = unsure.nonzero(as_tuple=True)
        _count_exactly(count, query, gallery, row[at], column[at], m)
    return count


def _count_all(query: Side, gallery: Side, tile: Tensor) -> Tensor:
    """The counts (A, M) of a tile (A, B), with -inf where a row does not count."""
    lower, upper = _levels(query)
    count = _number(torch.gt, tile, upper)
    unsure = _number(torch.ge, tile, lower) - count
    if int(unsure.sum()) * CROWDED > tile.numel():
        return _count_exact_tile(query, gallery, tile)
    i, m = unsure.nonzero(as_tuple=True)
    step = max(1, SCRATCH // tile.shape[1])
    for row, target in zip(i.split(step), m.split(step)):
        score = tile[row]  # (U, B)
        low = lower[row, target, None]
        high = upper[row, target, None]
        at, column = places((score >= low) & (score <= high))
        _count_exactly(count, query, gallery, row[at], column, target[at])
    return count


def _number(compare: Callable, tile: Tensor, level: Tensor) -> Tensor:
    """How many similarities (A, B) compare so with each of their row's levels (A, M); (A, M)."""
    # counting floats is faster than counting bools
    work = torch.empty_like(tile)
    numbers = []
    for one in level.T.contiguous()[:, :, None]:
        compare(tile, one, out=work)
        numbers.append(work.sum(1))
    return torch.stack(numbers, 1).long()


def _count_exactly(count: Tensor, query: Side, gallery: Side, i: Tensor, j: Tensor,
                   m: Tensor) -> None:
    """Add to the count the gallery rows j[p] that come before target m[p] of query i[p]."""
    score = query.score[i, m]  # (P,)
    product = pair_products(query.rows.product, gallery.rows.product, i, j)
    value = product.double() - query.rows.offset[i]
    close = (value - score).abs() <= query.tolerance[i]
    value[close] = exact_pairs(query.rows, gallery.rows, i[close], j[close])
    before = _comes_before(value, gallery.index[j], score, query.target[i, m])
    count.index_put_((i, m), before.long(), accumulate=True)


def _count_exact_tile(query: Side, gallery: Side, tile: Tensor) -> Tensor:
    """The counts (A, M) where float32 leaves too many similarities unsure."""
    exact = exact_scores(query.rows, gallery.rows)
    exact.masked_fill_(tile == -torch.inf, -torch.inf)
    counts = []
    for score, target in zip(query.score.T, query.target.T):
        before = _comes_before(exact, gallery.index, score[:, None], target[:, None])
        counts.append(before.sum(1))
    return torch.stack(counts, 1)


def _comes_before(value: Tensor, index: Tensor, score: Tensor, target: Tensor) -> Tensor:
    """Whether a row comes before the target: of a higher score, or equal with a lower index."""
    return (value > score) | ((value == score) & (index < target))
