"""Slow, plain versions of the retrieval and clustering metrics. Nothing of the project is imported here."""
import math
from collections import Counter
from fractions import Fraction

import numpy as np


def ranking(rows: np.ndarray, i: int) -> list[int]:
    """Other rows by descending inner product with row i (rounded to float32), ties by the lower index."""
    score = {j: np.float32(sum(float(a) * float(b) for a, b in zip(rows[i], rows[j])))
             for j in range(len(rows)) if j != i}
    return sorted(score, key=lambda j: (-score[j], j))


def rankings(rows: np.ndarray) -> list[list[int]]:
    return [ranking(rows, i) for i in range(len(rows))]


def _queries(labels: list[int]) -> list[int]:
    return [i for i in range(len(labels)) if labels.count(labels[i]) > 1]


def recall_at_k(order: list[list[int]], labels: list[int], k: int) -> float:
    found = [any(labels[j] == labels[i] for j in order[i][:k]) for i in _queries(labels)]
    return float(Fraction(sum(found), len(found)))


def _average_precision(order: list[int], label: int, labels: list[int], cut: int | None) -> Fraction:
    hits, total = 0, Fraction(0)
    for rank, j in enumerate(order[:cut], start=1):
        if labels[j] == label:
            hits += 1
            total += Fraction(hits, rank)
    return total / (labels.count(label) - 1)


def map_at_r(order: list[list[int]], labels: list[int]) -> float:
    values = [_average_precision(order[i], labels[i], labels, labels.count(labels[i]) - 1) for i in _queries(labels)]
    return float(sum(values) / len(values))


def mean_average_precision(order: list[list[int]], labels: list[int]) -> float:
    values = [_average_precision(order[i], labels[i], labels, None) for i in _queries(labels)]
    return float(sum(values) / len(values))


def nmi(labels: list[int], clusters: list[int]) -> float:
    n, joint = len(labels), Counter(zip(labels, clusters))
    one, two = Counter(labels), Counter(clusters)
    information = sum(c / n * math.log(c * n / (one[a] * two[b])) for (a, b), c in joint.items())
    entropy = [-sum(c / n * math.log(c / n) for c in count.values()) for count in (one, two)]
    return 1.0 if sum(entropy) == 0 else information / (sum(entropy) / 2)
