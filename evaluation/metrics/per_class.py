"""Retrieval metrics class by class, as sums for an interval and as a table that begins with the worst."""
from collections.abc import Sequence

import torch
from torch import Tensor


def class_sums(value: Tensor, query: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of a metric over the queries of each class, ascending by label, and their number, (C,) float64 each.

    value (N,), query (N,) true where the row is a query, label (N,). A class of one image has no query: 0 of 0.
    """
    _, group, count = label.unique(return_inverse=True, return_counts=True)        # (N,), (C,)
    total = torch.zeros(2, len(count), dtype=torch.float64, device=label.device)
    total.index_add_(1, group[query], torch.stack([value[query].double(), torch.ones_like(value[query]).double()]))
    return total[0], total[1]


def class_table(values: dict[str, Tensor], query: Tensor, label: Tensor, class_names: Sequence[str]) -> list[dict]:
    """One line a class: name, number of images, mean of each metric over the queries of the class; worst first by the
    first metric, then by name order. A class without queries has no values and comes last.

    values: metric name -> (N,); query (N,); label (N,), an index of class_names.
    """
    labels, images = label.unique(return_counts=True)                              # (C,), (C,)
    lines = [{"class": class_names[c], "images": n} for c, n in zip(labels.tolist(), images.tolist())]
    for name, value in values.items():
        total, count = class_sums(value, query, label)                             # (C,), (C,)
        for line, mean, number in zip(lines, (total / count).tolist(), count.tolist()):
            line |= {name: mean} if number else {}
    first = next(iter(values))
    return sorted(lines, key=lambda line: line.get(first, torch.inf))
