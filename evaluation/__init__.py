"""Metrics of an embedding, by name; `evaluate` computes any set of them over one shared search."""
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.bootstrap import influence_interval, ratio_interval
from evaluation.clustering import ami, f1, nmi
from evaluation.embedding_space import dists_inter, dists_intra, dists_intra_over_inter, rho_spectrum
from evaluation.exact import euclidean
from evaluation.neighbours import check_finite
from evaluation.per_class import class_sums
from evaluation.ranks import Search, rank_blocks
from evaluation.retrieval import (
    average_precision,
    map_at_r,
    precision_at_k,
    r_precision,
    recall_at_k,
    reciprocal_rank,
    relevant,
)
from evaluation.sets import EvaluatedSet
from evaluation.verification import fnmr_at_fmr
from utilities.errors import RunError, UsageError
from utilities.pairwise import unit
from utilities.registry import lookup

FLAG = "--evaluation_metrics"
NUMBERS = {"<k>": r"[1-9][0-9]*", "<m>": r"-?[0-9]+", "<rate>": r"0?\.[0-9]+"}   # what stands behind the @ of a name
EVERY = torch.inf


class QueryMetric(NamedTuple):
    """A mean over queries: value(ranks (Q, M), R (Q,), depth) -> (Q,), see evaluation.retrieval; whether it ranks unit
    rows by cosine, or rows as given by Euclidean distance; depth(number in the name, size of the largest class): the
    last rank it looks at; whether it looks at the first row of the class alone."""

    value: Callable[[Tensor, Tensor, float], Tensor]
    cosine: bool
    depth: Callable[[int, int], float]
    first: bool = False


class SetMetric(NamedTuple):
    """A property of the whole set: value(set, number in the name) -> what each class contributes to a numerator and to
    a denominator, (C,) each, or the metric followed by its value without each class, (C + 1,) or just (1,)."""

    value: Callable[[EvaluatedSet, float], tuple[Tensor, Tensor] | Tensor]


METRICS = {
    "e_recall@<k>": QueryMetric(recall_at_k, False, lambda k, size: k, first=True),
    "c_recall@<k>": QueryMetric(recall_at_k, True, lambda k, size: k, first=True),
    "precision@<k>": QueryMetric(precision_at_k, False, lambda k, size: k),
    "c_precision@<k>": QueryMetric(precision_at_k, True, lambda k, size: k),
    "r_precision": QueryMetric(r_precision, False, lambda k, size: size),
    "c_r_precision": QueryMetric(r_precision, True, lambda k, size: size),
    "mrr": QueryMetric(reciprocal_rank, False, lambda k, size: EVERY, first=True),
    "c_mrr": QueryMetric(reciprocal_rank, True, lambda k, size: EVERY, first=True),
    "mAP": QueryMetric(average_precision, False, lambda k, size: EVERY),
    "c_mAP": QueryMetric(average_precision, True, lambda k, size: EVERY),
    "mAP_r": QueryMetric(map_at_r, False, lambda k, size: size),
    "c_mAP_r": QueryMetric(map_at_r, True, lambda k, size: size),
    "mAP_1000": QueryMetric(average_precision, False, lambda k, size: 1000),
    "c_mAP_1000": QueryMetric(average_precision, True, lambda k, size: 1000),
    "mAP_lim": QueryMetric(average_precision, False, lambda k, size: 1023),
    "c_mAP_lim": QueryMetric(average_precision, True, lambda k, size: 1023),
    "mAP_c": QueryMetric(average_precision, False, lambda k, size: size),
    "c_mAP_c": QueryMetric(average_precision, True, lambda k, size: size),
    "nmi": SetMetric(lambda s, _: nmi(s.clusters)),
    "c_nmi": SetMetric(lambda s, _: nmi(s.spherical_clusters)),
    "f1": SetMetric(lambda s, _: f1(s.clusters)),
    "c_f1": SetMetric(lambda s, _: f1(s.spherical_clusters)),
    "ami": SetMetric(lambda s, _: ami(s.clusters, s.left_out)),
    "dists@intra": SetMetric(lambda s, _: dists_intra(s.rows, s.label)),
    "dists@inter": SetMetric(lambda s, _: dists_inter(s.rows, s.label)),
    "dists@intra_over_inter": SetMetric(lambda s, _: dists_intra_over_inter(s.rows, s.label)),
    "rho_spectrum@<m>": SetMetric(lambda s, m: rho_spectrum(s.singular_values, int(m))),
    "fnmr@<rate>": SetMetric(lambda s, rate: fnmr_at_fmr(s.rows, s.label, rate)),
}


def parse_metric(name: str) -> tuple[QueryMetric | SetMetric, float]:
    """The metric of a name and the number in it (0 where it has none); a UsageError that lists the names otherwise."""
    for pattern, metric in METRICS.items():
        stem, kind = re.fullmatch(r"(.*?)(<.*>)?", pattern).groups()
        if name == stem and not kind:
            return metric, 0
        if kind and re.fullmatch(re.escape(stem) + NUMBERS[kind], name):
            return metric, float(name.removeprefix(stem)) if kind == "<rate>" else int(name.removeprefix(stem))
    if "<" in name:
        raise UsageError(f"{FLAG} {name}: write a number for {name.partition('@')[2]}, as in e_recall@1.")
    return lookup(METRICS, name, "metric (k: a number from 1, m: a whole number, rate: between 0 and 1)", FLAG)


@torch.no_grad()
def evaluate(embeddings: Tensor, labels: Tensor, metrics: list[str], *, gallery: Tensor | None = None,
             gallery_labels: Tensor | None = None, backend: str = "auto", block: int = 1024,
             precision: str = "float32", seed: int = 0, gpu: bool = False, bootstrap: int = 0) -> dict[str, float]:
    """The metrics asked for, by name, in that order; METRICS lists them, docs/metrics.md defines them.

    embeddings (N, D), labels (N,), on the CPU or an accelerator: each row is a query among the others. With gallery
        (G, D) and gallery_labels (G,) each searches there instead; metrics of the set then take both together.
    backend, block, precision, gpu: how neighbours are searched, see nearest_neighbours; the numbers do not depend on
        it. Where ranks can be counted for less, no neighbours are searched.
    seed: of k-means; no global random state is read or changed.
    bootstrap: with so many draws of classes also NAME_low and NAME_high, a 95 % interval.
    """
    asked = {name: parse_metric(name) for name in metrics}
    values, query = query_values(embeddings, labels, metrics, gallery=gallery, gallery_labels=gallery_labels,
                                 backend=backend, block=block, precision=precision, gpu=gpu)
    rows, label = embeddings.float(), labels.to(embeddings.device)
    if gallery is not None:
        rows, label = torch.cat([rows, gallery.float()]), torch.cat([label, gallery_labels.to(label.device)])
    whole = EvaluatedSet(rows, label, seed, gpu, bootstrap > 0)
    found = {}
    for name, (metric, number) in asked.items():
        if name in values:
            found[name] = values[name][query].mean().item()
            parts = class_sums(values[name], query, labels.to(query.device)) if bootstrap else None
        else:
            parts = metric.value(whole, number)
            found[name] = (parts[0].sum() / parts[1].sum() if isinstance(parts, tuple) else parts[0]).item()
        if bootstrap:
            interval = ratio_interval(*parts, bootstrap, seed) if isinstance(parts, tuple) else influence_interval(
                parts, bootstrap, seed)
            found |= dict(zip((f"{name}_low", f"{name}_high"), interval))
    return found


@torch.no_grad()
def query_values(embeddings: Tensor, labels: Tensor, metrics: list[str], *, gallery: Tensor | None = None,
                 gallery_labels: Tensor | None = None, backend: str = "auto", block: int = 1024,
                 precision: str = "float32", gpu: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """The retrieval metrics among those named, one number a row, (N,) float64 each, and which rows are queries, (N,):
    those with something to find. The others are only found, and their numbers are zero. Arguments as in evaluate."""
    _check(embeddings, labels, gallery, gallery_labels)
    asked = {name: parsed for name in metrics if isinstance((parsed := parse_metric(name))[0], QueryMetric)}
    label = labels.to(embeddings.device)
    there = label if gallery is None else gallery_labels.to(label.device)          # (G,)
    count = relevant(label, None if gallery is None else there)                    # (N,)
    query = count > 0                                                              # (N,)
    if asked and not query.any():
        raise RunError("evaluation: no image has another of its class to find (every class has a single image); leave "
                       "the retrieval metrics out, or evaluate more images.")
    values = {name: torch.zeros(len(label), dtype=torch.float64, device=label.device) for name in asked}
    for cosine, names in _spaces(embeddings, gallery, asked).items():
        rows, among = _searched(embeddings, gallery, cosine)
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


def _searched(embeddings: Tensor, gallery: Tensor | None, cosine: bool) -> tuple[Tensor, Tensor]:
    """Queries and gallery whose inner product ranks as asked; rows of unit length stay as they are."""
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
