"""Exact selection probabilities of the miners: for every anchor, {(p, n): probability}; an empty one means that the
anchor is left out."""
import numpy as np

from tests.oracles.common import negatives, positives


def random_triplets(x, label):
    table = []
    for a in range(len(label)):
        ps, ns = positives(label, a), negatives(label, a)
        table.append({(p, n): 1 / (len(ps) * len(ns)) for p in ps for n in ns})
    return table


def semihard(x, label, margin=0.2):
    """Joint probabilities; they sum to the chance that the drawn positive has a semi-hard negative."""
    table = []
    for a in range(len(label)):
        ps, row = positives(label, a), {}
        for p in ps:
            d_ap = np.linalg.norm(x[a] - x[p])
            band = [n for n in negatives(label, a) if d_ap < np.linalg.norm(x[a] - x[n]) < d_ap + margin]
            row.update({(p, n): 1 / (len(ps) * len(band)) for n in band})
        table.append(row)
    return table


def distance_weighted(x, label, lower_cutoff=0.5, upper_cutoff=1.4):
    x, dim = [row / np.linalg.norm(row) for row in x], x.shape[1]
    table = []
    for a in range(len(label)):
        ps, ns, chance = positives(label, a), negatives(label, a), {}
        for n in ns:
            d = np.linalg.norm(x[a] - x[n])
            if d < upper_cutoff:
                d = max(d, lower_cutoff)
                chance[n] = d ** (2 - dim) * max(1 - d * d / 4, 1e-8) ** ((3 - dim) / 2)
        chance = chance or dict.fromkeys(ns, 1.0)
        total = sum(chance.values())
        table.append({(p, n): c / total / len(ps) for p in ps for n, c in chance.items()})
    return table


MINER_ORACLES = {"random": random_triplets, "semihard": semihard, "distance": distance_weighted}
