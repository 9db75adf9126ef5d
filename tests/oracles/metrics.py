"""Slow, plain versions of the retrieval and clustering metrics. Nothing of the project is imported
here."""
import math
from collections import Counter
from fractions import Fraction

import numpy as np


def ranking(rows: np.ndarray, i: int) -> list[int]:
    """Other rows by descending inner product with row i (rounded to float32), ties by the lower
    index."""
    score = {
        j: np.float32(sum(float(a) * float(b) for a, b in zip(rows[i], rows[j])))
        for j in range(len(rows))
        if j != i
    }
    return sorted(score, key=lambda j: (-score[j], j))


def rankings(rows: np.ndarray) -> list[list[int]]:
    return [ranking(rows, i) for i in range(len(rows))]


def _queries(labels: list[int]) -> list[int]:
    return [i for i in range(len(labels)) if labels.count(labels[i]) > 1]


def recall_at_k(order: list[list[int]], labels: list[int], k: int) -> float:
    found = [any(labels[j] == labels[i] for j in order[i][:k]) for i in _queries(labels)]
    return float(Fraction(sum(found), len(found)))


def _average_precision(
    order: list[int], label: int, labels: list[int], cut: int | None
) -> Fraction:
    hits, total = 0, Fraction(0)
    for rank, j in enumerate(order[:cut], start=1):
        if labels[j] == label:
            hits += 1
            total += Fraction(hits, rank)
    return total / (labels.count(label) - 1)


def map_at_r(order: list[list[int]], labels: list[int]) -> float:
    values = [
        _average_precision(order[i], labels[i], labels, labels.count(labels[i]) - 1)
        for i in _queries(labels)
    ]
    return float(sum(values) / len(values))


def mean_average_precision(
    order: list[list[int]], labels: list[int], cut: int | None = None
) -> float:
    values = [_average_precision(order[i], labels[i], labels, cut) for i in _queries(labels)]
    return float(sum(values) / len(values))


def precision_at_k(order: list[list[int]], labels: list[int], k: int) -> float:
    values = [
        Fraction(sum(labels[j] == labels[i] for j in order[i][:k]), k) for i in _queries(labels)
    ]
    return float(sum(values) / len(values))


def r_precision(order: list[list[int]], labels: list[int]) -> float:
    size = {i: labels.count(labels[i]) - 1 for i in _queries(labels)}
    values = [
        Fraction(sum(labels[j] == labels[i] for j in order[i][:r]), r) for i, r in size.items()
    ]
    return float(sum(values) / len(values))


def mrr(order: list[list[int]], labels: list[int]) -> float:
    first = [
        next(r for r, j in enumerate(order[i], start=1) if labels[j] == labels[i])
        for i in _queries(labels)
    ]
    return float(sum(Fraction(1, r) for r in first) / len(first))


def nmi(labels: list[int], clusters: list[int]) -> float:
    n, joint = len(labels), Counter(zip(labels, clusters))
    one, two = Counter(labels), Counter(clusters)
    information = sum(c / n * math.log(c * n / (one[a] * two[b])) for (a, b), c in joint.items())
    entropy = [-sum(c / n * math.log(c / n) for c in count.values()) for count in (one, two)]
    return 1.0 if sum(entropy) == 0 else information / (sum(entropy) / 2)


def f1(labels: list[int], clusters: list[int]) -> float:
    pairs = [
        (labels[i] == labels[j], clusters[i] == clusters[j])
        for i in range(len(labels))
        for j in range(i)
    ]
    whole = sum(same for same, _ in pairs) + sum(together for _, together in pairs)
    return 2 * sum(same and together for same, together in pairs) / whole if whole else 0.0


def ami(labels: list[int], clusters: list[int]) -> float:
    n, joint = len(labels), Counter(zip(labels, clusters))
    one, two = Counter(labels), Counter(clusters)
    information = sum(c / n * math.log(c * n / (one[a] * two[b])) for (a, b), c in joint.items())
    entropy = sum(-c / n * math.log(c / n) for count in (one, two) for c in count.values()) / 2
    expected = sum(
        c
        / n
        * math.log(n * c / (a * b))
        * math.comb(a, c)
        * math.comb(n - a, b - c)
        / math.comb(n, b)
        for a in one.values()
        for b in two.values()
        for c in range(max(1, a + b - n), min(a, b) + 1)
    )
    return (
        1.0 if abs(entropy - expected) < 1e-12 else (information - expected) / (entropy - expected)
    )


def kmeans(rows: np.ndarray, start: list[int], rounds: int, spherical: bool = False) -> list[int]:
    """Lloyd's algorithm, everything computed anew in each round; clusters must not become empty."""

    def nearest(centre):
        return [
            min(range(len(centre)), key=lambda k: float(((row - centre[k]) ** 2).sum()))
            for row in rows
        ]

    rows = rows.astype(np.float64)
    cluster = nearest([rows[i] for i in start])
    for _ in range(rounds):
        centre = [
            rows[[i for i in range(len(rows)) if cluster[i] == k]].mean(0)
            for k in range(len(start))
        ]
        cluster = nearest([c / np.sqrt((c**2).sum()) if spherical else c for c in centre])
    return cluster


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    length = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(x) ** 2 for x in b))
    return 1 - sum(float(x) * float(y) for x, y in zip(a, b)) / length if length else 1.0


def dists_intra(rows: np.ndarray, labels: list[int]) -> float:
    means = []
    for label in sorted(set(labels)):
        own = [i for i in range(len(labels)) if labels[i] == label]
        if len(own) > 1:
            pairs = [cosine_distance(rows[i], rows[j]) for i in own for j in own if i != j]
            means.append(sum(pairs) / len(pairs))
    return sum(means) / len(means)


def dists_inter(rows: np.ndarray, labels: list[int]) -> float:
    means = [
        rows[np.array(labels) == label].astype(np.float64).mean(0) for label in sorted(set(labels))
    ]
    pairs = [
        cosine_distance(a, b) for i, a in enumerate(means) for j, b in enumerate(means) if i != j
    ]
    return sum(pairs) / len(pairs)


def rho_spectrum(rows: np.ndarray, m: int) -> float:
    value = np.linalg.svd(rows.astype(np.float64), compute_uv=False)[max(abs(m) - 1, 0) :]
    share = [float(s) / float(value.sum()) for s in value]
    if m == 0:
        return share[0]
    uniform = 1 / len(share)
    return sum(
        uniform * math.log(uniform / s) if m > 0 else s * math.log(s / uniform) for s in share
    )


def fnmr_at_fmr(rows: np.ndarray, labels: list[int], rate: float) -> float:
    distance = {
        (i, j): float(
            np.float32(math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(rows[i], rows[j]))))
        )
        for j in range(len(rows))
        for i in range(j)
    }
    other = sorted(d for (i, j), d in distance.items() if labels[i] != labels[j])
    place = rate * (len(other) - 1)
    low, high = other[math.floor(place)], other[min(math.floor(place) + 1, len(other) - 1)]
    limit = low + (high - low) * (place - math.floor(place))
    same = [d for (i, j), d in distance.items() if labels[i] == labels[j]]
    return sum(d >= limit for d in same) / len(same)
