"""Retrieval metrics: what share of an image's nearest other images shows its class.

METRICS in `__init__.py` has them by name. Every metric is a function of the ranks of the images
that a query should find, one float64 number a query:

    value(rank, count, depth) -> (Q,)
    rank (Q, M) float64: the ranks, from 1, of the rows of the query's class among all other rows,
        ascending; infinite beyond the last, and where no metric that was asked for looks
    count (Q,): R, how many there are, at least one
    depth: the rank at which the metric looks last
"""
import torch
from torch import Tensor


def relevant(label: Tensor, gallery_label: Tensor | None = None) -> Tensor:
    """R of each row, (N,): how many other rows, or rows of another gallery, are of its class."""
    searched = label if gallery_label is None else gallery_label
    ordered = searched.sort().values
    label = label.contiguous()
    until = torch.searchsorted(ordered, label, right=True)
    number = until - torch.searchsorted(ordered, label)
    return number - 1 if gallery_label is None else number


def recall_at_k(rank: Tensor, count: Tensor, k: float) -> Tensor:
    """Recall@K of metric learning (Song et al., "Deep Metric Learning via Lifted Structured Feature
    Embedding", CVPR 2016): 1 if any of the k nearest rows is of the query's class, otherwise 0.
    Fewer than k rows: all of them."""
    return (rank[:, 0] <= k).double()


def precision_at_k(rank: Tensor, count: Tensor, k: float) -> Tensor:
    """Share of the k nearest rows that are of the query's class; missing rows count as misses."""
    return (rank <= k).sum(1).double() / k


def r_precision(rank: Tensor, count: Tensor, depth: float) -> Tensor:
    """R-precision (Manning et al., Introduction to Information Retrieval, 2008, section 8.4): hits
    among the R nearest rows / R."""
    return (rank <= count[:, None]).sum(1) / count.double()


def average_precision(rank: Tensor, count: Tensor, depth: float) -> Tensor:
    """Average precision: (1/R) sum_{i <= depth} P(i) rel(i), P(i) = hits in top i / i.

    The m-th row of the class, at rank r_m, adds m / r_m.
    """
    hits = torch.arange(1, rank.shape[1] + 1, device=rank.device)  # (M,)
    precision = torch.where(rank <= depth, hits / rank, 0)  # (Q, M)
    return precision.sum(1) / count


def map_at_r(rank: Tensor, count: Tensor, depth: float) -> Tensor:
    """MAP@R (Musgrave et al., "A Metric Learning Reality Check", ECCV 2020): average precision
    cut at rank R."""
    return average_precision(rank, count, count[:, None])


def reciprocal_rank(rank: Tensor, count: Tensor, depth: float) -> Tensor:
    """1 / rank of the first row of the query's class; its mean is the MRR (Voorhees, TREC-8)."""
    return 1 / rank[:, 0]
