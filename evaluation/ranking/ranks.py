"""The ranks at which each query finds the rows of its class, exactly, without sorting and at any depth.

The rank of a row is one more than the number of rows that come before it, so it needs no list of neighbours: tiles of
similarities are compared with that of the row (evaluation.ranking.counting). Where classes are large and only the first
ranks matter, lists of neighbours cost less.
"""
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.ranking.counting import Side, rows_before
from evaluation.ranking.exact import CELLS, exact_similarity, slack
from evaluation.ranking.neighbours import neighbour_blocks
from evaluation.ranking.threads import map_blocks
from utilities.device import full_precision

STEP = 32    # queries whose targets are scored at once, by a product with the rows of their classes
LISTED = 16  # more ranks than this for each query: lists of neighbours cost less than counting, where they reach


class Search(NamedTuple):
    """Who searches what, and how: queries (Q, D), their labels (Q,) and R (Q,); gallery (N, D), its labels (N,);
    itself: the queries are the gallery's rows; symmetric: similarities are the same from either end; backend, block,
    gpu and precision as in nearest_neighbours."""

    query: Tensor
    label: Tensor
    count: Tensor
    gallery: Tensor
    gallery_label: Tensor
    itself: bool
    symmetric: bool
    backend: str
    block: int
    gpu: bool
    precision: str


def rank_blocks(search: Search, depth: float, reach: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Ranks block by block: some queries (B,), and their ranks (B, M) as in evaluation.metrics.retrieval.

    Exact for all rows of the class up to rank `depth`, and for the first of them up to rank `reach`; others may be
    infinite. Queries that have nothing to find may be missing. Memory: some tables of CELLS numbers or of (block, k),
    and a copy of the gallery.
    """
    depth = int(min(depth, len(search.gallery) - search.itself))
    leading = min(depth, int(search.count.max()))
    with full_precision(search.query.device):
        if leading > LISTED and depth < len(search.gallery) // 2:
            yield from _listed(search, leading, depth, reach)
        else:
            yield from _counted(search, search.count > 0, leading, depth, reach)


# ------------------------------------------------------------------------------------------------------------ by lists


def _listed(search: Search, leading: int, depth: int, reach: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The ranks up to `depth` from lists of neighbours; the first rank of queries without a hit in them by counting."""
    itself = torch.arange(len(search.query), device=search.query.device) if search.itself else None
    missed = torch.zeros_like(search.count, dtype=torch.bool)                      # (Q,)
    for place, _, index in neighbour_blocks(search.query, search.gallery, depth, itself=itself, backend=search.backend,
                                            block=search.block, gpu=search.gpu, precision=search.precision):
        rank = _ranks_in_lists(search.gallery_label[index] == search.label[place, None], leading)
        missed[place] = (rank[:, 0] == torch.inf) & (search.count[place] > 0) & (reach > depth)
        found = (~missed[place]).nonzero()[:, 0]                                   # (F,)
        yield place.start + found, rank[found]
    if missed.any():
        yield from _counted(search, missed, 1, depth, reach)


def _ranks_in_lists(hit: Tensor, leading: int) -> Tensor:
    """Where the hits (B, K) lie in the lists, (B, leading), from 1; infinite where there are fewer."""
    rank = torch.full((len(hit), leading), torch.inf, dtype=torch.float64, device=hit.device)
    i, column = hit.nonzero(as_tuple=True)
    rank[i, hit.cumsum(1)[i, column] - 1] = (column + 1).double()
    return rank                                                                    # (B, leading)


# --------------------------------------------------------------------------------------------------------- by counting


def _counted(search: Search, wanted: Tensor, leading: int, depth: float, reach: float) -> \
        Iterator[tuple[Tensor, Tensor]]:
    """The first `leading` ranks of the queries where `wanted` (Q,) by counting, infinite beyond `depth`; the first of
    them beyond `reach` too."""
    among, first, group = _by_class(search)                                        # first: (C,), group: (Q,)
    count = search.count * wanted                                                  # (Q,)
    stray = slack(search.query, search.gallery)                                    # (Q,)
    fits = len(count) * (int(count.max()) + 1) <= CELLS
    mirror = search.itself and search.symmetric and fits and 2 * int(wanted.sum()) > len(wanted)
    which = wanted.nonzero()[:, 0]
    which = which[group[which].argsort(stable=True)]                               # (W,)
    for part in [among.index] if mirror else _parts(which, count):
        rows = among.rows if mirror else search.query[part]                        # (B, D)
        target, score = _targets(rows, among, first[group[part]], count[part], part if search.itself else None)
        query = Side(rows, group[part], part, target[:, :leading], score[:, :leading], stray[part])
        place = torch.arange(1, query.score.shape[1] + 1, device=rows.device)      # (M,) m - 1 of the class before it
        last = torch.where(place > 1, depth, max(depth, reach))                    # (M,)
        rank = rows_before(query, query if mirror else among, search.block, last - place) + place  # (B, M)
        rank = rank.double().masked_fill((query.score == -torch.inf) | (rank > last), torch.inf)
        asked = wanted[part]
        yield part[asked], rank[asked]


def _by_class(search: Search) -> tuple[Side, Tensor, Tensor]:
    """The gallery sorted by class, small classes first, so that like numbers of ranks stand together; where each class
    begins there (C,); and the class of each query (Q,), if it has one."""
    label, group, size = search.gallery_label.unique(return_inverse=True, return_counts=True)
    by_size = size.argsort(stable=True)                                            # (C,)
    number = torch.empty_like(by_size)
    number[by_size] = torch.arange(len(size), device=size.device)                  # (C,) of each class in that order
    group, order = number[group].sort(stable=True)                                 # (N,), (N,)
    rows, nothing = search.gallery[order], search.gallery.new_empty(len(order), 0)           # (N, D), (N, 0)
    among = Side(rows, group, order, nothing.long(), nothing, nothing.sum(1))
    own = torch.searchsorted(label, search.label).clamp(max=len(label) - 1)        # (Q,)
    return among, size[by_size].cumsum(0) - size[by_size], number[own]


def _parts(which: Tensor, count: Tensor) -> Iterator[Tensor]:
    """Consecutive parts (B,) of the queries `which`, sorted by count (Q,), so that B x the largest is within CELLS."""
    while len(which):
        cells = (count[which] + 1) * torch.arange(1, len(which) + 1, device=which.device)
        part, which = which.tensor_split([max(1, int((cells <= CELLS).sum()))])
        yield part


def _targets(rows: Tensor, among: Side, first: Tensor, count: Tensor, itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The gallery rows of each query's class, most similar first, ties by the lower index, and their similarities,
    (B, R); the query itself, and places that are left, come last with -inf."""
    number = count if itself is None else count + (count > 0)                      # (B,) with the query
    column = torch.arange(int(number.max()), device=rows.device)                   # (R,)

    def targets(part: slice) -> tuple[Tensor, Tensor]:
        low, size = first[part], number[part]
        start, stop = int(low.min()), int((low + size).max())                      # queries stand class by class
        place = (low[:, None] - start + column).clamp(max=stop - start - 1)        # (A, R)
        index = among.index[start:stop][place]
        score = exact_similarity(rows[part], among.rows[start:stop]).gather(1, place)
        score.masked_fill_(column >= size[:, None], -torch.inf)
        if itself is not None:
            score.masked_fill_(index == itself[part, None], -torch.inf)
        score, order = score.sort(dim=1, descending=True, stable=True)
        return index.gather(1, order), score
    parts = [slice(start, start + STEP) for start in range(0, len(rows), STEP)]
    index, score = zip(*map_blocks(targets, parts, rows.device.type == "cpu"))
    return torch.cat(index), torch.cat(score)                                      # (B, R), (B, R)
