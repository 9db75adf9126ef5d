"""Metrics of an embedding, by name; `evaluate` computes any set of them over one shared search."""
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.metrics.bootstrap import influence_interval, ratio_interval
from evaluation.metrics.clustering import ami, f1, nmi
from evaluation.metrics.embedding_space import dists_inter, dists_intra, dists_intra_over_inter, rho_spectrum
from evaluation.metrics.per_class import class_sums
from evaluation.metrics.retrieval import (
    average_precision,
    map_at_r,
    precision_at_k,
    r_precision,
    recall_at_k,
    reciprocal_rank,
)
from evaluation.metrics.sets import EvaluatedSet
from evaluation.metrics.verification import fnmr_at_fmr
from evaluation.ranking.queries import QueryMetric, values_by_query
from utilities.errors import UsageError
from utilities.registry import lookup

FLAG = "--evaluation_metrics"
NUMBERS = {"<k>": r"[1-9][0-9]*", "<m>": r"-?[0-9]+", "<rate>": r"0?\.[0-9]+"}   # what stands behind the @ of a name
EVERY = torch.inf


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


def query_values(embeddings: Tensor, labels: Tensor, metrics: list[str], *, gallery: Tensor | None = None,
                 gallery_labels: Tensor | None = None, backend: str = "auto", block: int = 1024,
                 precision: str = "float32", gpu: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """The retrieval metrics among those named, one number a row, (N,) float64 each, and which rows are queries, (N,):
    those with something to find. The others are only found, and their numbers are zero. Arguments as in evaluate."""
    asked = {name: parse_metric(name) for name in metrics}
    asked = {name: (metric, number) for name, (metric, number) in asked.items() if isinstance(metric, QueryMetric)}
    return values_by_query(embeddings, labels, asked, gallery=gallery, gallery_labels=gallery_labels, backend=backend,
                           block=block, precision=precision, gpu=gpu)
