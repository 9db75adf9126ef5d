"""Retrieval metrics class by class, as sums for an interval and as a table, worst class first."""
from collections.abc import Sequence

import torch
from torch import Tensor


def class_sums(value: Tensor, query: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of a metric over the queries of each class and their number, (C,) float64 each.

    value (N,), query (N,) true where the row is a query, label (N,). Classes ascend by label; a
    class of one image has no query: 0 of 0.
    """
    _, group, size = label.unique(return_inverse=True, return_counts=True)  # (N,), (C,)
    group = group[query]
    total = torch.zeros_like(size, dtype=torch.float64)
    total.index_add_(0, group, value[query].double())
    return total, group.bincount(minlength=len(size)).double()


def class_table(values: dict[str, Tensor], query: Tensor, label: Tensor,
                class_names: Sequence[str]) -> list[dict]:
    """One line a class: its name, number of images, and mean of each metric over its queries.

    The worst by the first metric comes first, equal ones in the order of the names. A class without
    queries has no values and comes last. values: metric name -> (N,); query (N,); label (N,), an
    index of class_names.
    """
    labels, images = label.unique(return_counts=True)  # (C,), (C,)
    lines = []
    for c, number in zip(labels.tolist(), images.tolist()):
        lines.append({"class": class_names[c], "images": number})
    for name, value in values.items():
        total, count = class_sums(value, query, label)  # (C,), (C,)
        means = (total / count).tolist()
        for line, mean, queries in zip(lines, means, count.tolist()):
            if queries:
                line[name] = mean
    first = next(iter(values))
    return sorted(lines, key=lambda line: line.get(first, torch.inf))
