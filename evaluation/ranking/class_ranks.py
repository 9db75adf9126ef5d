"""The ranks at which each query finds the rows of its class, exactly and at any depth.

The rank of a row is one more than the number of rows that come before it. Counting these needs no
sorting and no list of neighbours (evaluation.ranking.counting). Lists of neighbours cost less where
classes are large and only the first ranks matter, or where classes are very large.
"""
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.ranking.counting import Side, new_side, rows_before
from evaluation.ranking.exact import CELLS, exact_scores, slack
from evaluation.ranking.neighbours import SearchOptions, neighbour_blocks
from evaluation.ranking.rows import Rows
from evaluation.ranking.threads import map_blocks
from utilities.device import full_precision

STEP = 32           # queries whose targets are scored at once, by a product with their classes
LISTED = 16         # with more ranks a query, short lists of neighbours cost less than counting
ALWAYS_LISTED = 128  # with more, lists of any length do


class Search(NamedTuple):
    """Who searches what, and how."""

    query: Rows            # (Q, D)
    label: Tensor          # (Q,)
    count: Tensor          # (Q,) gallery rows of the query's class
    gallery: Rows          # (N, D)
    gallery_label: Tensor  # (N,)
    itself: bool           # whether the queries are the gallery's rows
    symmetric: bool        # whether products are the same from either end
    options: SearchOptions


def ranks(search: Search, depth: float, reach: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Ranks block by block: the numbers of some queries (B,), and their ranks (B, M).

    rank (B, M) float64: from 1, ascending, of the rows of the query's class among all gallery rows
    but itself. They are exact up to rank `depth`, the first of them up to rank `reach`; others may
    be infinite. Queries with nothing to find may be missing. Memory: some tables of CELLS numbers
    or of (block, k), and a copy of the gallery.
    """
    size = len(search.gallery)
    depth = int(min(depth, size - search.itself))
    leading = min(depth, int(search.count.max()))
    short = leading > LISTED and depth < size // 2
    with full_precision(search.label.device):
        if short or leading > ALWAYS_LISTED:
            yield from _listed(search, leading, depth, reach)
        else:
            yield from _counted(search, search.count > 0, leading, depth, reach)


# ------------------------------------------------------------------------------------- by lists


def _listed(search: Search, leading: int, depth: int,
            reach: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The ranks up to `depth` from lists; the first rank of queries without a hit by counting."""
    device = search.label.device
    itself = torch.arange(len(search.query), device=device) if search.itself else None
    missed = torch.zeros_like(search.count, dtype=torch.bool)  # (Q,)
    blocks = neighbour_blocks(search.query, search.gallery, depth, itself, search.options)
    for place, _, index in blocks:
        hit = search.gallery_label[index] == search.label[place, None]  # (B, K)
        rank = _ranks_in_lists(hit, leading)
        nothing = (rank[:, 0] == torch.inf) & (search.count[place] > 0)
        missed[place] = nothing & (reach > depth)
        done = (~missed[place]).nonzero()[:, 0]
        yield place.start + done, rank[done]
    if missed.any():
        yield from _counted(search, missed, 1, depth, reach)


def _ranks_in_lists(hit: Tensor, leading: int) -> Tensor:
    """Where the hits (B, K) stand in the lists, (B, leading), from 1; infinite where none is left."""
    rank = torch.full((len(hit), leading), torch.inf, dtype=torch.float64, device=hit.device)
    i, column = hit.nonzero(as_tuple=True)
    number = hit.cumsum(1)[i, column] - 1
    rank[i, number] = (column + 1).double()
    return rank


# ----------------------------------------------------------------------------------- by counting


def _counted(search: Search, wanted: Tensor, leading: int, depth: float,
             reach: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `leading` ranks of the queries where `wanted` (Q,), infinite beyond `depth`.

    The first of them is infinite beyond `reach` where that is more.
    """
    gallery, first, group = _by_class(search)  # first: (C,), group: (Q,)
    count = search.count * wanted
    tolerance = slack(search.query.product, search.gallery.product)
    fits = len(count) * (int(count.max()) + 1) <= CELLS
    mirror = search.itself and search.symmetric and fits and 2 * int(wanted.sum()) > len(wanted)
    parts = [gallery.index] if mirror else _parts(wanted, group, count)
    for part in parts:
        rows = gallery.rows if mirror else search.query[part]  # (B, D)
        itself = part if search.itself else None
        target, score = _targets(rows, gallery, first[group[part]], count[part], itself)
        target = target[:, :leading]
        query = new_side(rows, group[part], part, target, score[:, :leading], tolerance[part])
        place = torch.arange(1, target.shape[1] + 1, device=target.device)  # (M,)
        last = torch.where(place > 1, depth, max(depth, reach))
        other = query if mirror else gallery
        rank = place + rows_before(query, other, search.options.block, last - place)  # (B, M)
        beyond = (query.score == torch.inf) | (rank > last)
        rank = rank.double().masked_fill(beyond, torch.inf)
        asked = wanted[part]
        yield part[asked], rank[asked]


def _by_class(search: Search) -> tuple[Side, Tensor, Tensor]:
    """The gallery class by class, small classes first; where each class begins there (C,); and the
    number of each query's class in that order (Q,), if the gallery has the class."""
    label, group, size = search.gallery_label.unique(return_inverse=True, return_counts=True)
    by_size = size.argsort(stable=True)  # (C,)
    number = by_size.argsort()  # (C,) of each class in that order
    group, order = number[group].sort(stable=True)  # (N,), (N,)
    rows = search.gallery[order]
    nothing = torch.zeros_like(order)
    no_score = torch.full_like(order[:, None], torch.inf, dtype=torch.float64)
    gallery = new_side(rows, group, order, nothing[:, None], no_score, nothing.float())
    size = size[by_size]
    own = torch.searchsorted(label, search.label).clamp(max=len(label) - 1)  # (Q,)
    return gallery, size.cumsum(0) - size, number[own]


def _parts(wanted: Tensor, group: Tensor, count: Tensor) -> Iterator[Tensor]:
    """The wanted queries class by class, in parts (B,) whose tables of targets fit into CELLS."""
    which = wanted.nonzero()[:, 0]
    which = which[group[which].argsort(stable=True)]  # (W,)
    while len(which):
        number = torch.arange(1, len(which) + 1, device=which.device)
        cells = (count[which] + 1) * number
        fitting = int((cells <= CELLS).sum())
        part, which = which.tensor_split([max(1, fitting)])
        yield part


def _targets(rows: Rows, gallery: Side, first: Tensor, count: Tensor,
             itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The gallery rows of each query's class, nearest first, ties by the lower index, and
    their scores, (B, R); the query itself, and places that are left, come last with inf.

    first, count (B,): where the class begins, and how many rows there are to find.
    """
    number = count if itself is None else count + (count > 0)  # (B,) with the query
    device = count.device
    column = torch.arange(int(number.max()), device=device)  # (R,)

    def targets(part: slice) -> tuple[Tensor, Tensor]:
        # queries stand class by class, so that their classes stand together
        begin = first[part]
        size = number[part]
        start = int(begin.min())
        stop = int((begin + size).max())
        place = (begin[:, None] - start + column).clamp(max=stop - start - 1)  # (A, R)
        index = gallery.index[start:stop][place]
        score = exact_scores(rows[part], gallery.rows[start:stop]).gather(1, place)
        score.masked_fill_(column >= size[:, None], -torch.inf)
        if itself is not None:
            score.masked_fill_(index == itself[part, None], -torch.inf)
        score, order = score.sort(dim=1, descending=True, stable=True)
        return index.gather(1, order), score.masked_fill(score == -torch.inf, torch.inf)

    parts = [slice(start, start + STEP) for start in range(0, len(rows), STEP)]
    found = list(map_blocks(targets, parts, device.type == "cpu"))
    index = torch.cat([index for index, _ in found])
    score = torch.cat([score for _, score in found])
    return index, score  # (B, R), (B, R)
