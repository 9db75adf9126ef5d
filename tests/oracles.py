"""Slow versions: every criterion and the exact selection probabilities of every miner, as naive loops in float64.

Nothing here comes from the project, and nothing is vectorised: each line is a line of the definition. A criterion's
oracle is called as oracle(x, label, triplets, w_pos, w_neg, placement, params, **constructor arguments) with rows x
(B, D), a list of (a, p, n), weights (B, B), and params the learned arrays by name. A miner's oracle gives, for every
anchor, {(p, n): probability}; an empty one means that the anchor is left out.
"""
import math

import numpy as np


def positives(label, i):
    return [j for j in range(len(label)) if j != i and label[j] == label[i]]


def negatives(label, i):
    return [j for j in range(len(label)) if label[j] != label[i]]


def relu(value):
    return max(value, 0.0)


def sigmoid(value):
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def log_one_plus_sum(terms):
    """log(1 + sum w exp(e)) of (w, e) pairs."""
    return math.log1p(math.fsum(w * math.exp(e) for w, e in terms))


def gpw(x, label, triplets, w_pos, w_neg, placement, params):
    anchors = []
    for i in range(len(label)):
        ps, ns = positives(label, i), negatives(label, i)
        if ps and ns:
            anchors.append(sum(w_neg[i, n] * (x[i] @ x[n]) for n in ns) / len(ns)
                           - sum(w_pos[i, p] * (x[i] @ x[p]) for p in ps) / len(ps))
    return math.fsum(anchors) / len(anchors) if anchors else 0.0


def margin(x, label, triplets, w_pos, w_neg, placement, params, margin=0.2, beta=1.2, beta_constant=False, nu=0.0):
    total, count = 0.0, 0
    for a, p, n in triplets:
        b = beta if beta_constant else params["beta"][label[a]]
        d_ap = math.sqrt(sum((x[a] - x[p]) ** 2) + 1e-8)
        d_an = math.sqrt(sum((x[a] - x[n]) ** 2) + 1e-8)
        if placement == "distance":
            near, far = relu(w_pos[a, p] * d_ap - b + margin), relu(b - w_neg[a, n] * d_an + margin)
            total += near + far
        else:
            near, far = relu(d_ap - b + margin), relu(b - d_an + margin)
            total += w_pos[a, p] * near + w_neg[a, n] * far
        total += nu * b
        count += int(near > 0) + int(far > 0)                                      # booleans of numpy add to one
    return total / count if count else 0.0


def multisimilarity(x, label, triplets, w_pos, w_neg, placement, params, pos_weight=2.0, neg_weight=40.0, margin=0.1,
                    thresh=0.5):
    total = 0.0
    for i in range(len(label)):
        ps, ns = positives(label, i), negatives(label, i)
        if not ps or not ns:
            continue
        hard_negative, hard_positive = max(x[i] @ x[n] for n in ns), min(x[i] @ x[p] for p in ps)
        ps, ns = ([p for p in ps if x[i] @ x[p] - margin < hard_negative],
                  [n for n in ns if x[i] @ x[n] + margin > hard_positive])
        total += log_one_plus_sum((w_pos[i, p], -pos_weight * (x[i] @ x[p] - thresh)) for p in ps) / pos_weight
        total += log_one_plus_sum((w_neg[i, n], neg_weight * (x[i] @ x[n] - thresh)) for n in ns) / neg_weight
    return total / len(label)


def smoothap(x, label, triplets, w_pos, w_neg, placement, params, tau=0.01, exclude_self=False):
    """The cubic form: every item against every item, for every query."""
    aps = []
    for q in range(len(label)):
        items = [j for j in range(len(label)) if not (exclude_self and j == q)]
        relevant = [j for j in items if label[j] == label[q]]
        precisions = []
        for i in relevant:
            among_positives, among_all = 1.0, 1.0
            for j in items:
                if j == i:
                    continue
                w = 1.0 if j == q else (w_pos if label[j] == label[q] else w_neg)[q, j]
                g = w * sigmoid((x[q] @ x[j] - x[q] @ x[i]) / tau)
                among_all += g
                among_positives += g if j in relevant else 0.0
            precisions.append(among_positives / among_all)
        if relevant:
            aps.append(sum(precisions) / len(relevant))
    return 1 - sum(aps) / len(aps) if aps else 0.0


def proxyanchor(x, label, triplets, w_pos, w_neg, placement, params, alpha=32.0, delta=0.1, lr=None):
    proxies = [p / math.sqrt(p @ p) for p in params["proxies"]]
    pull, push, present = 0.0, 0.0, 0
    for k, proxy in enumerate(proxies):
        own = [i for i in range(len(label)) if label[i] == k]
        others = [i for i in range(len(label)) if label[i] != k]
        present += bool(own)
        pull += log_one_plus_sum((w_pos[i, 0], -alpha * (x[i] @ proxy - delta)) for i in own)
        push += log_one_plus_sum((w_neg[i, 0], alpha * (x[i] @ proxy + delta)) for i in others)
    return pull / present + push / len(proxies)


ORACLES = {"gpw": gpw, "margin": margin, "multisimilarity": multisimilarity, "smoothap": smoothap,
           "proxyanchor": proxyanchor}


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
