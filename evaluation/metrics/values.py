"""The values of metrics: checked input, one search for each space, all metrics of the same ranks."""
from collections.abc import Iterable

import torch
from torch import Tensor

from evaluation.metrics import LARGEST, K, QueryMetric, SetMetric, parse_metric
from evaluation.metrics.arrays import Labels, Rows, as_labels, as_rows
from evaluation.metrics.bootstrap import influence_interval, ratio_interval
from evaluation.metrics.per_class import class_sums
from evaluation.metrics.retrieval import relevant
from evaluation.metrics.sets import EvaluatedSet
from evaluation.ranking import (
    Search,
    SearchOptions,
    check_finite,
    check_neighbours,
    is_narrow,
    is_unit,
    ranks,
    scaled,
    searched,
    with_context,
)
from utilities.errors import RunError, UsageError
from utilities.metric_names import CONTEXT
from utilities.ranges import Long, NonNegativeInt, refuse
from utilities.text import counted, shown

# a metric, and the number in its name
Parsed = tuple[QueryMetric | SetMetric, float]


@torch.no_grad()
def evaluate(embeddings: Rows, labels: Labels, metrics: Iterable[str], *,
             gallery: Rows | None = None, gallery_labels: Labels | None = None, seed: int = 0,
             bootstrap: int = 0, context: int = 0, context_power: float = 3.0,
             **options) -> dict[str, float]:
    """The metrics asked for, by name, in that order; METRICS lists them, docs/metrics.md defines them.

    embeddings (N, D), labels (N,): tensors on the CPU or an accelerator, numpy arrays or lists;
        labels may be names. Each row is a query among the others. With gallery (G, D) and
        gallery_labels (G,) each searches there instead; metrics of the set then take both together.
    seed: of k-means; no global random state is read or changed.
    bootstrap: with so many draws of classes also NAME_low and NAME_high, a 95 % interval.
    context: with so many neighbours, and their similarity to the power context_power as weight,
        also each metric of the rows with context (evaluation.ranking.with_context), as ctx_NAME.
    options: those of evaluation.ranking.SearchOptions; the numbers do not depend on them.

    Raises UsageError for what cannot be evaluated as given, RunError for NaN and for sets in which
    no image has another of its class.
    """
    refuse("evaluation: bootstrap", NonNegativeInt, bootstrap)
    refuse("evaluation: seed", Long, seed)
    seed = int(seed)
    embeddings = as_rows(embeddings)
    gallery = as_rows(gallery)
    labels, gallery_labels = as_labels(labels, gallery_labels)
    metrics = list(metrics)
    if context:
        check_neighbours(context, len(embeddings if gallery is None else gallery))
    more = {"gallery_labels": gallery_labels, "seed": seed, "bootstrap": bootstrap} | options
    found = _evaluated(embeddings, labels, metrics, gallery=gallery, **more)
    if context:
        rows, other = with_context(embeddings, gallery, context, context_power, **options)
        again = _evaluated(rows, labels, metrics, gallery=other, **more)
        found |= {CONTEXT + name: value for name, value in again.items()}
    return found


def _evaluated(embeddings: Tensor, labels: Tensor, metrics: list[str], *, gallery: Tensor | None,
               gallery_labels: Tensor | None, seed: int, bootstrap: int,
               **options) -> dict[str, float]:
    """The metrics of these rows, with their intervals."""
    values, query = query_values(embeddings, labels, metrics, gallery=gallery,
                                 gallery_labels=gallery_labels, **options)
    label = labels.to(embeddings.device)
    own_label = label
    rows, other = scaled(embeddings, gallery)
    if gallery is not None:
        rows = torch.cat([rows, other])
        label = torch.cat([label, gallery_labels.to(label.device)])
    gpu = SearchOptions(**options).gpu
    whole = EvaluatedSet(rows, label, seed, gpu, left_out=bootstrap > 0)
    found = {}
    for name in metrics:
        if name in values:
            found[name] = values[name][query].mean().item()
            parts = class_sums(values[name], query, own_label)
        else:
            metric, number = parse_metric(name)
            parts = metric.value(whole, number)
            if not isinstance(parts, tuple) and getattr(parts, "ndim", 0) != 1:
                raise UsageError(f"metric {name}: its function gave {shown(parts)}: give two tensors (C,), or "
                                 "one (1,) or (C + 1,).")
            total = parts[0].sum() / parts[1].sum() if isinstance(parts, tuple) else parts[0]
            found[name] = total.item()
        if bootstrap:
            if isinstance(parts, tuple):
                low, high = ratio_interval(*parts, bootstrap, seed)
            else:
                low, high = influence_interval(parts, bootstrap, seed)
            found[f"{name}_low"] = low
            found[f"{name}_high"] = high
    return found


@torch.no_grad()
def query_values(embeddings: Rows, labels: Labels, metrics: list[str], *,
                 gallery: Rows | None = None, gallery_labels: Labels | None = None,
                 **options) -> tuple[dict[str, Tensor], Tensor]:
    """The retrieval metrics among those named, one number a row, (N,) float64 each, and which rows
    are queries, (N,).

    Queries are the rows with something to find; the numbers of the others are zero. Arguments as
    in evaluate.
    """
    embeddings = as_rows(embeddings)
    gallery = as_rows(gallery)
    labels, gallery_labels = as_labels(labels, gallery_labels)
    parsed = {name: parse_metric(name) for name in metrics}
    asked = {name: found for name, found in parsed.items() if isinstance(found[0], QueryMetric)}
    _check(embeddings, labels, gallery, gallery_labels)
    label = labels.to(embeddings.device).contiguous()
    if gallery is None:
        gallery_label = label
        count = relevant(label)
    else:
        gallery_label = gallery_labels.to(label.device).contiguous()  # (G,)
        count = relevant(label, gallery_label)
    query = count > 0  # (N,)
    if asked and not query.any():
        reason = "no class of the queries is in the gallery: name the classes of both alike"
        if gallery is None:
            reason = ("no image has another of its class to find, since every class has a single "
                      "image: evaluate more images")
        raise RunError(f"evaluation: {reason}, or leave the retrieval metrics out.")
    values = {}
    for cosine, some in _spaces(embeddings, gallery, asked).items():
        rows, among = searched(embeddings, gallery, cosine)
        search = Search(rows, label, count, among, gallery_label, itself=gallery is None,
                        symmetric=rows is among, options=SearchOptions(**options))
        values |= _values(some, search)
    return {name: values[name] for name in asked}, query


def _spaces(embeddings: Tensor, gallery: Tensor | None,
            asked: dict[str, Parsed]) -> dict[bool, dict[str, Parsed]]:
    """The metrics of each search, by cosine or not; rows of unit length rank alike in
    both, unless they are so close together that the rounding of their lengths shows."""
    if not asked:
        return {}
    both = [embeddings] if gallery is None else [embeddings, gallery]
    if all(is_unit(rows) and not is_narrow(rows) for rows in both):
        return {True: asked}
    spaces = {}
    for name, (metric, number) in asked.items():
        spaces.setdefault(metric.cosine, {})[name] = metric, number
    return spaces


def _values(asked: dict[str, Parsed], search: Search) -> dict[str, Tensor]:
    """The values (N,) of the metrics of one space, all from the same ranks."""
    size = int(search.gallery_label.unique(return_counts=True)[1].max())
    depth = {}
    for name, (metric, number) in asked.items():
        depth[name] = {K: number, LARGEST: size}.get(metric.depth, metric.depth)
    deep = [depth[name] for name, (metric, _) in asked.items() if not metric.first]
    zeros = torch.zeros(len(search.label), dtype=torch.float64, device=search.label.device)
    values = {name: zeros.clone() for name in asked}
    for part, rank in ranks(search, max(deep, default=1), max(depth.values())):
        some = search.count[part] > 0  # (B,)
        part = part[some]
        rank = rank[some]
        for name, (metric, _) in asked.items():
            found = metric.value(rank, search.count[part], depth[name])
            if not isinstance(found, Tensor) or found.shape != part.shape:
                raise UsageError(f"metric {name}: its function gave {shown(found)}: give a number for each "
                                 f"query, a tensor {tuple(part.shape)} here.")
            values[name][part] = found.double()
    return values


def _check(embeddings: Tensor, labels: Tensor, gallery: Tensor | None,
           gallery_labels: Tensor | None) -> None:
    """Refuse what cannot be evaluated."""
    if (gallery is None) != (gallery_labels is None):
        raise UsageError("evaluation: a gallery needs gallery_labels, and the other way round; "
                         "pass both or neither.")
    _check_rows(embeddings, labels, "test")
    if gallery is not None:
        _check_rows(gallery, gallery_labels, "gallery")
    least = 2 if gallery is None else 1
    if len(labels) < least or (gallery is not None and not len(gallery)):
        raise RunError(f"evaluation: {counted(len(labels), 'image')}; metrics need two or more, or one and a "
                       "gallery.")
    if gallery is not None and gallery.shape[1] != embeddings.shape[1]:
        raise UsageError(f"evaluation: embeddings of {counted(embeddings.shape[1], 'number')} cannot be "
                         f"searched in a gallery of {gallery.shape[1]}; embed both with the same "
                         "network.")


def _check_rows(rows: Tensor, label: Tensor, what: str) -> None:
    if rows.ndim != 2 or label.shape != rows.shape[:1]:
        raise UsageError(f"evaluation: {what} embeddings of shape {tuple(rows.shape)} and labels "
                         f"of shape {tuple(label.shape)} do not fit; pass (N, D) embeddings and "
                         "(N,) labels.")
    if not rows.shape[1]:
        raise UsageError(f"evaluation: {what} embeddings have no numbers: pass rows of one or more.")
    check_finite(rows, what)
