"""Clustering metrics: how well the clusters of k-means agree with the classes.

All are read off the contingency of classes and clusters. Each function gives a vector of C + 1 values: the metric
itself, then the metric with the rows of one class left out, class by class; evaluation.metrics.bootstrap makes an
interval of them. Natural logarithms throughout; 0 log 0 is 0.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

CELLS = 2**20  # entries of a temporary table of the expected information (8 MB)


class Contingency(NamedTuple):
    """Classes against clusters, as the cells that are not empty: n_ck > 0 rows of class c lie in cluster k."""

    count: Tensor      # (cells,) n_ck, float64
    row: Tensor        # (cells,) c
    column: Tensor     # (cells,) k
    class_size: Tensor    # (C,) n_c
    cluster_size: Tensor  # (K,) m_k


class Sums(NamedTuple):
    """Sums of a function g over the contingency, (C + 1,) each: over all rows, then without the rows of each class."""

    total: Tensor      # N, the number of rows (not g of anything)
    cells: Tensor      # sum_ck g(n_ck)
    classes: Tensor    # sum_c g(n_c)
    clusters: Tensor   # sum_k g(m_k)


def contingency(label: Tensor, cluster: Tensor) -> Contingency:
    """The table of labels (N,) and clusters (N,), on the CPU; at most N cells, no (C, K) or (N, N) table."""
    _, row = label.cpu().unique(return_inverse=True)                               # (N,)
    _, column = cluster.cpu().unique(return_inverse=True)                          # (N,)
    width = int(column.max()) + 1
    cell, count = (row * width + column).unique(return_counts=True)                # (cells,), (cells,)
    return Contingency(count.double(), cell // width, cell % width, row.bincount().double(), column.bincount().double())


def nmi(table: Contingency) -> Tensor:
    """Normalised mutual information (Strehl and Ghosh, JMLR 2002, with the mean of the entropies as the norm):
    MI / ((H(class) + H(cluster)) / 2), (C + 1,). One class in one cluster, 0/0, counts as 1."""
    information, mean_entropy = _information(_sums(table, _x_log_x))
    return _ratio(information, mean_entropy, 1.0)                                  # (C + 1,)


def f1(table: Contingency) -> Tensor:
    """Pairwise F1 (Manning et al., Introduction to Information Retrieval, 2008, section 16.3), (C + 1,):
    2 TP / (pairs of one class + pairs in one cluster), TP the pairs that are both; 0 where there are no such pairs."""
    sums = _sums(table, lambda n: n * (n - 1) / 2)
    return _ratio(2 * sums.cells, sums.classes + sums.clusters, 0.0)               # (C + 1,)


def ami(table: Contingency, left_out: bool = True) -> Tensor:
    """Adjusted mutual information (Vinh et al., JMLR 2010): (MI - E) / ((H(class) + H(cluster)) / 2 - E), (C + 1,),
    or (1,) where left_out is false, which costs one expectation instead of one for every distinct class size.

    E is the expected MI of random tables with the same sizes. Where it leaves nothing to explain, 0/0, AMI is 1.
    """
    information, mean_entropy = _information(_sums(table, _x_log_x))
    expected = _expected_information(table, left_out)                              # (C + 1,) or (1,)
    information, mean_entropy = information[:len(expected)], mean_entropy[:len(expected)]
    return _ratio(information - expected, mean_entropy - expected, 1.0)


def _x_log_x(n: Tensor) -> Tensor:
    return torch.xlogy(n, n)


def _ratio(part: Tensor, whole: Tensor, otherwise: float) -> Tensor:
    """part / whole; `otherwise` where the whole is zero but for rounding."""
    some = whole.abs() > 1e-12
    return torch.where(some, part / torch.where(some, whole, 1), otherwise)


def _sums(table: Contingency, g: Callable[[Tensor], Tensor]) -> Sums:
    """The sums of g; leaving out a class empties its cells and takes n_ck rows from cluster k."""
    size = table.cluster_size[table.column]                                        # (cells,)
    classes = len(table.class_size)

    def all_and_without(whole: Tensor, part: Tensor) -> Tensor:
        return torch.cat([whole[None], whole - part])                              # (C + 1,)

    def by_class(value: Tensor) -> Tensor:
        return value.new_zeros(classes).index_add(0, table.row, value)             # (C,)
    cells, own = g(table.count), g(table.class_size)
    return Sums(all_and_without(table.class_size.sum(), table.class_size),
                all_and_without(cells.sum(), by_class(cells)), all_and_without(own.sum(), own),
                all_and_without(g(table.cluster_size).sum(), by_class(g(size) - g(size - table.count))))


def _information(sums: Sums) -> tuple[Tensor, Tensor]:
    """MI and (H(class) + H(cluster)) / 2 from sums of n log n, (C + 1,) each; zero for no rows.

    H = log N - sum_i n_i log n_i / N, and MI = H(class) + H(cluster) - H(cells).
    """
    total = sums.total.clamp(min=1)
    cells, classes, clusters = ((total.log() - part / total).clamp(min=0) for part in sums[1:])
    return classes + clusters - cells, (classes + clusters) / 2


def _expected_information(table: Contingency, left_out: bool) -> Tensor:
    """E[MI] over random tables with the given sizes, (C + 1,) or (1,).

    E = sum_ck e(n_c, m_k), which depends on sizes alone, so e is computed once for each pair of distinct sizes. Without
    a class of s rows N is N - s, one class of s rows is missing, and m_k - n_ck stands for m_k in the clusters it met.
    """
    left = table.cluster_size[table.column] - table.count                          # (cells,) m_k without class c
    sizes, which = torch.cat([table.cluster_size, left]).unique(return_inverse=True)
    old, new = which[:len(table.cluster_size)], which[len(table.cluster_size):]    # (K,), (cells,) places in sizes
    rows, number = table.class_size.unique(return_counts=True)                     # (distinct class sizes,)
    total = table.class_size.sum()
    found = [_expected_by_cluster(rows, number, sizes, total)[old].sum()[None]]
    if not left_out:
        return found[0]                                                            # (1,)
    without = torch.zeros_like(table.class_size)                                   # (C,)
    for size in rows:
        value = _expected_by_cluster(rows, number - (rows == size).long(), sizes, total - size)     # (sizes,)
        own = (table.class_size == size)[table.row]                                # (cells,) cells of such classes
        change = (value[new] - value[old[table.column]])[own]
        change = torch.zeros_like(without).index_add(0, table.row[own], change)
        without = torch.where(table.class_size == size, value[old].sum() + change, without)
    return torch.cat([found[0], without])                                          # (C + 1,)


def _expected_by_cluster(rows: Tensor, number: Tensor, columns: Tensor, total: Tensor) -> Tensor:
    """For clusters of the sizes `columns` (M,) the sum of e(a, .) over classes: number[i] of rows[i] rows, (M,).

    e(a, b) = sum_n n/N log(N n / (a b)) P(n), P hypergeometric: n of b drawn from N rows, a of which are of the class.
    """
    value = torch.zeros_like(columns)
    for a, times in zip(rows[number > 0], number[number > 0]):
        n = torch.arange(1, int(a) + 1, dtype=torch.float64)                       # (a,)
        for part in torch.arange(len(columns)).split(max(1, CELLS // len(n))):
            b = columns[part, None].clamp(min=1)                                   # (part, 1)
            possible = (n <= columns[part, None]) & (total - a - b + n >= 0)       # (part, a)
            log_p = _log_choose(a, n) + _log_choose(total - a, b - n) - _log_choose(total, b)
            term = n / total * (total * n / (a * b)).log() * log_p.exp()
            value[part] += times * torch.where(possible, term, 0).sum(1)
    return value


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """log of n over k."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
