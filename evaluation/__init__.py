"""Metrics of an embedding, by name; `evaluate` computes any set of them over one shared neighbour search."""
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.clustering import nmi
from evaluation.neighbours import check_finite, nearest_neighbours
from evaluation.retrieval import map_at_r, mean_average_precision, recall_at_k, relevant
from utilities.errors import RunError, UsageError
from utilities.pairwise import unit
from utilities.registry import lookup

FLAG = "--evaluation_metrics"


class Evaluated(NamedTuple):
    """What a metric may read: unit rows (N, D), labels (N,), nearest other rows (N, K), and how to compute."""

    embedding: Tensor
    label: Tensor
    index: Tensor
    block: int
    seed: int
    gpu: bool


class Metric(NamedTuple):
    """depth(k, label): neighbours needed of each row (0: none); value(evaluated, k): the number."""

    depth: Callable[[int, Tensor], int]
    value: Callable[[Evaluated, int], float]


METRICS = {
    "e_recall@<k>": Metric(lambda k, label: k, lambda e, k: recall_at_k(e.index, e.label, k)),
    "nmi": Metric(lambda k, label: 0, lambda e, k: nmi(e.embedding, e.label, seed=e.seed, gpu=e.gpu)),
    "mAP_r": Metric(lambda k, label: int(relevant(label).max()), lambda e, k: map_at_r(e.index, e.label, e.block)),
    "mAP": Metric(lambda k, label: 0, lambda e, k: mean_average_precision(e.embedding, e.label, e.block)),
}


def parse_metric(name: str) -> tuple[Metric, int]:
    """The metric of an exact name and its k (0 where it has none); a UsageError that lists the names otherwise."""
    pattern = re.sub(r"@[1-9][0-9]*$", "@<k>", name)
    if "<k>" in name:
        raise UsageError(f"{FLAG} {name}: write a number for <k>, as in e_recall@1.")
    metric = lookup(METRICS, pattern if pattern in METRICS else name, "metric (k: a number from 1)", FLAG)
    return metric, int(name.rpartition("@")[2]) if pattern != name else 0


@torch.no_grad()
def evaluate(embeddings: Tensor, labels: Tensor, metrics: list[str], *, backend: str = "auto", block: int = 1024,
             seed: int = 0, gpu: bool = False) -> dict[str, float]:
    """The metrics called for, by name: e_recall@<k>, nmi, mAP_r, mAP.

    embeddings (N, D), labels (N,), on the CPU or an accelerator. Rows are brought to unit length first; there the
    Euclidean distance falls as the cosine grows, so the e_ names rank alike by either. With fewer than k other rows,
    e_recall@k looks at all of them. One neighbour search, as deep as the most demanding metric, serves all; `block`
    bounds its memory. No global random state is read or changed: k-means draws from `seed`.
    """
    asked = {name: parse_metric(name) for name in metrics}
    _check(embeddings, labels)
    embedding = unit(embeddings.float())                                           # (N, D)
    labels = labels.to(embedding.device)
    depth = max((metric.depth(k, labels) for metric, k in asked.values()), default=0)
    depth = min(depth, len(labels) - 1)
    index = labels.new_empty(len(labels), 0) if depth < 1 else nearest_neighbours(
        embedding, embedding, depth, exclude_self=True, backend=backend, block=block, gpu=gpu)[1]   # (N, depth)
    evaluated = Evaluated(embedding, labels, index, block, seed, gpu)
    return {name: metric.value(evaluated, k) for name, (metric, k) in asked.items()}


def _check(embeddings: Tensor, labels: Tensor) -> None:
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise UsageError(f"evaluation: embeddings of shape {tuple(embeddings.shape)} and labels of shape "
                         f"{tuple(labels.shape)} do not fit; pass (N, D) embeddings and (N,) labels.")
    if len(labels) < 2:
        raise RunError(f"evaluation: {len(labels)} images; metrics need two or more.")
    check_finite(embeddings, "test")
