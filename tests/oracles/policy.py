"""Naive loops for what the policy sees and decides; imports nothing from the project."""
import numpy as np


def naive_average_precision(similarity, labels, i):
    """AP of query i, itself left out, ties by the lower index."""
    others = sorted((j for j in range(len(labels)) if j != i), key=lambda j: (-similarity[i][j], j))
    hits, total = 0, 0.0
    for rank, j in enumerate(others, start=1):
        if labels[j] == labels[i]:
            hits += 1
            total += hits / rank
    return total / hits if hits else 0.0


def naive_sharpness_weights(z, labels, b_p, b_n):
    """Softmax over the positives (-b_p s) and over the negatives (b_n s) of each row, times their
    number."""
    size, s = len(labels), z @ z.T
    weights = np.zeros((2, size, size))
    for i in range(size):
        for sign, b in ((0, -float(b_p)), (1, float(b_n))):
            pairs = [j for j in range(size) if j != i and (labels[j] == labels[i]) == (sign == 0)]
            top = max((b * s[i, j] for j in pairs), default=0.0)
            total = sum(np.exp(b * s[i, j] - top) for j in pairs)
            for j in pairs:
                weights[sign, i, j] = len(pairs) * np.exp(b * s[i, j] - top) / total
    return weights


def naive_anchor_statistics(z, labels):
    """The eight raw statistics per anchor, the four of the batch, and the APs."""
    size, s, rows, aps = len(labels), z @ z.T, [], []
    positives, negatives = [], []
    for i in range(size):
        p = [s[i, j] for j in range(size) if j != i and labels[j] == labels[i]]
        n = [s[i, j] for j in range(size) if labels[j] != labels[i]]
        positives, negatives = positives + p, negatives + n
        low, high, hard = min(p, default=0.0), max(p, default=0.0), max(n, default=0.0)
        aps.append(naive_average_precision(s, labels, i))
        worst = low if p else 0.0
        rows.append(
            [
                np.mean(p) if p else 0.0,
                low,
                high,
                np.mean(n) if n else 0.0,
                hard,
                hard - low,
                aps[-1],
                np.mean([x > worst for x in n]) if n else 0.0,
            ]
        )
    batch = [np.mean(aps), np.mean(positives), np.mean(negatives), np.linalg.norm(z.mean(0))]
    return np.array(rows), np.array(batch), aps


def naive_pair_statistics(z, labels):
    """Similarity, and similarity and mean similarity of the two classes standardised over the pairs
    of one sign."""
    size, s, found = len(labels), z @ z.T, np.zeros((len(labels), len(labels), 3))
    classes = {c: [i for i in range(size) if labels[i] == c] for c in labels}
    between = np.array(
        [
            [
                np.mean([s[a, b] for a in classes[labels[i]] for b in classes[labels[j]]])
                for j in range(size)
            ]
            for i in range(size)
        ]
    )
    for i in range(size):
        for positive in (True, False):
            pairs = [j for j in range(size) if j != i and (labels[j] == labels[i]) == positive]
            for k, rows in enumerate((s, between), start=1):
                values = [rows[i, j] for j in pairs]
                for j in pairs:
                    found[i, j, 0] = s[i, j]
                    found[i, j, k] = (rows[i, j] - np.mean(values)) / max(np.std(values), 1e-6)
    return found
