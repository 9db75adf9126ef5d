"""Retrieval metrics query by query: checked input, one search for each space, all metrics from the same ranks."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.metrics.retrieval import relevant
from evaluation.ranking.exact import euclidean
from evaluation.ranking.neighbours import check_finite
from evaluation.ranking.ranks import Search, rank_blocks
from utilities.errors import RunError, UsageError
from utilities.pairwise import unit


class QueryMetric(NamedTuple):
    """A mean over queries: value(ranks (Q, M), R (Q,), depth) -> (Q,), see evaluation.metrics.retrieval; whether it
    ranks unit rows by cosine, or rows as given by Euclidean distance;
    depth(number in the name, size of the largest class): the
    last rank it looks at; whether it looks at the first row of the class alone."""

    value: Callable[[Tensor, Tensor, float], Tensor]
    cosine: bool
    depth: Callable[[int, int], float]
    first: bool = False


@torch.no_grad()
def values_by_query(embeddings: Tensor, labels: Tensor, asked: dict[str, tuple[QueryMetric, int]], *,
                    gallery: Tensor | None, gallery_labels: Tensor | None, backend: str, block: int, precision: str,
                    gpu: bool) -> tuple[dict[str, Tensor], Tensor]:
    """The metrics asked for with the numbers in their names, as evaluation.query_values gives them."""
    _check(embeddings, labels, gallery, gallery_labels)
    label = labels.to(embeddings.device).contiguous()
    there = label if gallery is None else gallery_labels.to(label.device).contiguous()       # (G,)
    count = relevant(label, None if gallery is None else there)                    # (N,)
    query = count > 0                                                              # (N,)
    if asked and not query.any():
        raise RunError("evaluation: no image has another of its class to find (every class has a single image); leave "
                       "the retrieval metrics out, or evaluate more images.")
    values = {name: torch.zeros(len(label), dtype=torch.float64, device=label.device) for name in asked}
    for cosine, names in _spaces(embeddings, gallery, asked).items():
        rows, among = searched(embeddings, gallery, cosine)
        search = Search(rows, label, count, among, there, gallery is None, cosine, backend, block, gpu, precision)
        _fill(values, {name: asked[name] for name in names}, search)
    return values, query


def _fill(values: dict[str, Tensor], asked: dict[str, tuple[QueryMetric, int]], search: Search) -> None:
    """Write the metrics of one space into their values, all from the same ranks."""
    size = int(search.gallery_label.unique(return_counts=True)[1].max())
    depth = {name: metric.depth(k, size) for name, (metric, k) in asked.items()}
    deep = max((depth[name] for name, (metric, _) in asked.items() if not metric.first), default=1)
    for part, rank in rank_blocks(search, deep, max(depth.values())):
        some = search.count[part] > 0                                              # (B,)
        part, rank = part[some], rank[some]
        for name, (metric, _) in asked.items():
            values[name][part] = metric.value(rank, search.count[part], depth[name])


def _spaces(embeddings: Tensor, gallery: Tensor | None, asked: dict) -> dict[bool, list[str]]:
    """The metrics of each search, by cosine or not; on rows of unit length the two rank alike, and one serves both."""
    one = all(_is_unit(rows) for rows in (embeddings, gallery) if rows is not None)
    names = {cosine: [name for name, (metric, _) in asked.items() if one or metric.cosine == cosine]
             for cosine in ((True,) if one else (False, True))}
    return {cosine: found for cosine, found in names.items() if found}


def searched(embeddings: Tensor, gallery: Tensor | None, cosine: bool) -> tuple[Tensor, Tensor]:
    """Queries and gallery (the same tensor where it is None) whose inner product ranks as asked; rows of unit length
    stay as they are."""
    rows, among = embeddings.float(), (embeddings if gallery is None else gallery).float()
    if not cosine:
        return euclidean(rows, among)
    rows, same = rows if _is_unit(rows) else unit(rows), among is rows
    return rows, rows if same else among if _is_unit(among) else unit(among)


def _is_unit(rows: Tensor) -> bool:
    return bool(((rows.float().norm(dim=1) - 1).abs() <= 1e-6).all())


def _check(embeddings: Tensor, labels: Tensor, gallery: Tensor | None, gallery_labels: Tensor | None) -> None:
    """Refuse what cannot be evaluated."""
    if (gallery is None) != (gallery_labels is None):
        raise UsageError("evaluation: a gallery needs gallery_labels, and the other way round; pass both or neither.")
    for what, rows, label in (("test", embeddings, labels), ("gallery", gallery, gallery_labels)):
        if rows is None:
            continue
        if rows.ndim != 2 or label.shape != rows.shape[:1]:
            raise UsageError(f"evaluation: {what} embeddings of shape {tuple(rows.shape)} and labels of shape "
                             f"{tuple(label.shape)} do not fit; pass (N, D) embeddings and (N,) labels.")
        check_finite(rows, what)
    if len(labels) < (2 if gallery is None else 1) or (gallery is not None and not len(gallery)):
        raise RunError(f"evaluation: {len(labels)} images; metrics need two or more, or one and a gallery.")
    if gallery is not None and gallery.shape[1] != embeddings.shape[1]:
        raise UsageError(f"evaluation: embeddings of {embeddings.shape[1]} numbers cannot be searched in a gallery of "
                         f"{gallery.shape[1]}; embed both with the same network.")
