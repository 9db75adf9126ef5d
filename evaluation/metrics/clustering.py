"""Clustering metrics: how well the clusters of k-means agree with the classes.

All are read off the contingency of classes and clusters. Each function gives a vector of C + 1
values: the metric itself, then the metric with the rows of one class left out, class by class;
evaluation.metrics.bootstrap makes an interval of them. Natural logarithms throughout; 0 log 0 is 0.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

CELLS = 2**20  # entries of a temporary table of the expected information (8 MB)


class Contingency(NamedTuple):
    """Classes against clusters, as the cells that are not empty: n_ck rows of class c in cluster k.

    Sizes are float64.
    """

    count: Tensor         # (cells,) n_ck > 0, float64
    row: Tensor           # (cells,) c
    column: Tensor        # (cells,) k
    class_size: Tensor    # (C,) n_c
    cluster_size: Tensor  # (K,) m_k


class Sums(NamedTuple):
    """Sums of a function g, (C + 1,) each: over all rows, then without the rows of each class."""

    total: Tensor     # N, the number of rows (not g of anything)
    cells: Tensor     # sum_ck g(n_ck)
    classes: Tensor   # sum_c g(n_c)
    clusters: Tensor  # sum_k g(m_k)


def contingency(label: Tensor, cluster: Tensor) -> Contingency:
    """The table of labels (N,) and clusters (N,), on the CPU; at most N cells."""
    _, row, class_size = label.cpu().unique(return_inverse=True, return_counts=True)
    _, column, cluster_size = cluster.cpu().unique(return_inverse=True, return_counts=True)
    clusters = len(cluster_size)
    cell, count = (row * clusters + column).unique(return_counts=True)  # (cells,), (cells,)
    sizes = class_size.double(), cluster_size.double()
    return Contingency(count.double(), cell // clusters, cell % clusters, *sizes)


def nmi(table: Contingency) -> Tensor:
    """Normalised mutual information, MI / ((H(class) + H(cluster)) / 2), (C + 1,).

    Strehl and Ghosh, JMLR 2002, with the mean of the entropies as the norm. One class in one
    cluster, 0/0, counts as 1.
    """
    information, mean_entropy = _information(table)
    return _ratio(information, mean_entropy, 1.0)


def f1(table: Contingency) -> Tensor:
    """Pairwise F1 (Manning et al., Introduction to Information Retrieval, 2008, section 16.3),
    (C + 1,): 2 TP / (pairs of one class + pairs in one cluster), TP the pairs that are both.

    0 where there are no such pairs.
    """
    sums = _sums(table, lambda n: n * (n - 1) / 2)
    return _ratio(2 * sums.cells, sums.classes + sums.clusters, 0.0)


def ami(table: Contingency, left_out: bool = True) -> Tensor:
    """Adjusted mutual information (Vinh et al., JMLR 2010):
    (MI - E) / ((H(class) + H(cluster)) / 2 - E), (C + 1,).

    E is the expected MI of random tables with the same sizes. Where it leaves nothing to explain,
    0/0, AMI is 1. left_out false: the metric alone, (1,), which costs one expectation instead of
    one for every distinct class size.
    """
    information, mean_entropy = _information(table)
    expected = _expected_information(table)
    if left_out:
        expected = torch.cat([expected, _expected_without(table)])
    number = len(expected)
    explained = information[:number] - expected
    return _ratio(explained, mean_entropy[:number] - expected, 1.0)


def _ratio(part: Tensor, whole: Tensor, otherwise: float) -> Tensor:
    """part / whole; `otherwise` where the whole is zero but for rounding."""
    some = whole.abs() > 1e-12
    ratio = part / torch.where(some, whole, 1)
    return torch.where(some, ratio, otherwise)


def _sums(table: Contingency, g: Callable[[Tensor], Tensor]) -> Sums:
    """The sums of g; leaving out a class empties its cells and takes n_ck rows from cluster k."""
    cells = g(table.count)
    classes = g(table.class_size)
    size = table.cluster_size[table.column]  # (cells,)
    lost = g(size) - g(size - table.count)
    return Sums(
        _with_and_without(table.class_size.sum(), table.class_size),
        _with_and_without(cells.sum(), _by_class(table, cells)),
        _with_and_without(classes.sum(), classes),
        _with_and_without(g(table.cluster_size).sum(), _by_class(table, lost)))


def _by_class(table: Contingency, value: Tensor) -> Tensor:
    """The sum of the values of each class's cells, (C,)."""
    return torch.zeros_like(table.class_size).index_add(0, table.row, value)


def _with_and_without(whole: Tensor, part: Tensor) -> Tensor:
    """A sum, then the sum without the part of each class, (C + 1,)."""
    return torch.cat([whole[None], whole - part])


def _information(table: Contingency) -> tuple[Tensor, Tensor]:
    """MI and (H(class) + H(cluster)) / 2, (C + 1,) each; zero for no rows.

    H = log N - sum_i n_i log n_i / N, and MI = H(class) + H(cluster) - H(cells).
    """
    sums = _sums(table, lambda n: torch.xlogy(n, n))
    total = sums.total.clamp(min=1)

    def entropy(part: Tensor) -> Tensor:
        return (total.log() - part / total).clamp(min=0)

    both = entropy(sums.classes) + entropy(sums.clusters)
    information = both - entropy(sums.cells)  # of nothing in common rounding leaves -1e-16
    return information.clamp(min=0), both / 2


def _expected_information(table: Contingency) -> Tensor:
    """E[MI] over random tables with the given sizes, (1,).

    E = sum_ck e(n_c, m_k) depends on sizes alone: e is computed once for each pair of distinct
    sizes.
    """
    sizes, which = _sizes(table)
    rows, number = table.class_size.unique(return_counts=True)
    value = _expected_by_cluster(rows, number, sizes, table.class_size.sum())
    return value[which[:len(table.cluster_size)]].sum()[None]


def _expected_without(table: Contingency) -> Tensor:
    """E[MI] without the rows of each class, (C,).

    Without a class of s rows, N is N - s, one class of s rows is missing, and m_k - n_ck stands for
    m_k in the clusters that it met.
    """
    sizes, which = _sizes(table)
    whole = which[:len(table.cluster_size)]  # (K,)
    left = which[len(table.cluster_size):]  # (cells,)
    rows, number = table.class_size.unique(return_counts=True)
    total = table.class_size.sum()
    without = torch.zeros_like(table.class_size)  # (C,)
    for size in rows:
        others = number - (rows == size).long()
        value = _expected_by_cluster(rows, others, sizes, total - size)  # (sizes,)
        change = value[left] - value[whole[table.column]]  # (cells,)
        expected = value[whole].sum() + _by_class(table, change)  # (C,)
        without = torch.where(table.class_size == size, expected, without)
    return without


def _sizes(table: Contingency) -> tuple[Tensor, Tensor]:
    """The distinct sizes of clusters, with all rows and without those of a class that they met; and
    the place there of each cluster's size and of each cell's, (K + cells,)."""
    left = table.cluster_size[table.column] - table.count
    return torch.cat([table.cluster_size, left]).unique(return_inverse=True)


def _expected_by_cluster(rows: Tensor, number: Tensor, columns: Tensor, total: Tensor) -> Tensor:
    """For clusters of sizes `columns` (M,) the sum of e(a, .) over classes: number[i] of rows[i]
    rows, (M,).

    e(a, b) = sum_n n/N log(N n / (a b)) P(n), P hypergeometric: n of b drawn from N rows, a of
    which are of the class.
    """
    value = torch.zeros_like(columns)
    for a, times in zip(rows[number > 0], number[number > 0]):
        n = torch.arange(1, int(a) + 1, dtype=torch.float64)  # (a,)
        for part in torch.arange(len(columns)).split(max(1, CELLS // len(n))):
            column = columns[part, None]  # (part, 1)
            b = column.clamp(min=1)
            possible = (n <= column) & (total - a - b + n >= 0)  # (part, a)
            log_p = _log_choose(a, n) + _log_choose(total - a, b - n) - _log_choose(total, b)
            term = n / total * (total * n / (a * b)).log() * log_p.exp()
            value[part] += times * torch.where(possible, term, 0).sum(1)
    return value


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """log of n over k."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
