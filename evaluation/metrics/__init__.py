"""The metrics by name; evaluation.metrics.values computes them, docs/metrics.md defines them."""
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.metrics.clustering import ami, f1, nmi
from evaluation.metrics.embedding_space import (
    dists_inter,
    dists_intra,
    dists_intra_over_inter,
    rho_spectrum,
)
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
from utilities.errors import UsageError
from utilities.metric_names import CONTEXT
from utilities.ranges import MANY
from utilities.registry import lookup

FLAG = "--evaluation_metrics"
# what stands behind the @ of a name
DIGITS = 18  # that are read of it: more change nothing
NUMBERS = {"<k>": r"[1-9][0-9]*", "<m>": r"-?[0-9]+", "<rate>": r"0?\.[0-9]+"}
# the last rank that a metric looks at: a number, or one of these
K = "the number in the name"
LARGEST = "the size of the largest class"
ALL = torch.inf


class QueryMetric(NamedTuple):
    """A mean over queries of value(ranks (Q, M), R (Q,), depth) -> (Q,): evaluation.metrics.retrieval.

    depth: the last rank that it looks at; cosine: it ranks unit rows by cosine, not rows as given
    by Euclidean distance; first: it looks at the first row of the class alone.
    """

    value: Callable[[Tensor, Tensor, float], Tensor]
    depth: float | str
    cosine: bool = False
    first: bool = False


class SetMetric(NamedTuple):
    """A property of the whole set: value(set, number in the name).

    It gives what each class contributes to a numerator and to a denominator, (C,) each; or the
    metric followed by its value without each class, (C + 1,) or just (1,).
    """

    value: Callable[[EvaluatedSet, float], tuple[Tensor, Tensor] | Tensor]


METRICS = {
    "e_recall@<k>": QueryMetric(recall_at_k, K, first=True),
    "c_recall@<k>": QueryMetric(recall_at_k, K, cosine=True, first=True),
    "precision@<k>": QueryMetric(precision_at_k, K),
    "c_precision@<k>": QueryMetric(precision_at_k, K, cosine=True),
    "r_precision": QueryMetric(r_precision, LARGEST),
    "c_r_precision": QueryMetric(r_precision, LARGEST, cosine=True),
    "mrr": QueryMetric(reciprocal_rank, ALL, first=True),
    "c_mrr": QueryMetric(reciprocal_rank, ALL, cosine=True, first=True),
    "mAP": QueryMetric(average_precision, ALL),
    "c_mAP": QueryMetric(average_precision, ALL, cosine=True),
    "mAP_r": QueryMetric(map_at_r, LARGEST),
    "c_mAP_r": QueryMetric(map_at_r, LARGEST, cosine=True),
    "mAP_1000": QueryMetric(average_precision, 1000),
    "c_mAP_1000": QueryMetric(average_precision, 1000, cosine=True),
    "mAP_lim": QueryMetric(average_precision, 1023),
    "c_mAP_lim": QueryMetric(average_precision, 1023, cosine=True),
    "mAP_c": QueryMetric(average_precision, LARGEST),
    "c_mAP_c": QueryMetric(average_precision, LARGEST, cosine=True),
    "nmi": SetMetric(lambda s, _: nmi(s.clusters)),
    "c_nmi": SetMetric(lambda s, _: nmi(s.spherical_clusters)),
    "f1": SetMetric(lambda s, _: f1(s.clusters)),
    "c_f1": SetMetric(lambda s, _: f1(s.spherical_clusters)),
    "ami": SetMetric(lambda s, _: ami(s.clusters, s.left_out)),
    "dists@intra": SetMetric(lambda s, _: dists_intra(s.rows, s.label)),
    "dists@inter": SetMetric(lambda s, _: dists_inter(s.rows, s.label)),
    "dists@intra_over_inter": SetMetric(lambda s, _: dists_intra_over_inter(s.rows, s.label)),
    "rho_spectrum@<m>": SetMetric(lambda s, m: rho_spectrum(s.singular_values, int(m))),
    "fnmr@<rate>": SetMetric(lambda s, rate: fnmr_at_fmr(s.centred_rows, s.label, rate)),
}


def parse_metric(name: str, flag: str = FLAG) -> tuple[QueryMetric | SetMetric, float]:
    """The metric of a name and the number in the name, 0 where it has none.

    A UsageError that lists the names where there is no such metric.
    """
    for pattern, metric in METRICS.items():
        stem, kind = re.fullmatch(r"(.*?)(<.*>)?", pattern).groups()
        if name == pattern and not kind:
            return metric, 0
        if kind and re.fullmatch(re.escape(stem) + NUMBERS[kind], name):
            number = name.removeprefix(stem)
            if kind == "<rate>":
                return metric, float(number)
            return metric, max(-MANY, min(int(number[:DIGITS]), MANY))
    if name.startswith(CONTEXT):
        raise UsageError(f"{flag} {name}: --eval_context K adds {CONTEXT} metrics beside the plain "
                         f"ones; name {name.removeprefix(CONTEXT)} here.")
    if "<" in name:
        _, _, kind = name.partition("@")
        raise UsageError(f"{flag} {name}: write a number for {kind}, as in e_recall@1.")
    kind = "metric (k: a number from 1, m: a whole number, rate: between 0 and 1)"
    return lookup(METRICS, name, kind, flag)
