"""Losses over proxies of classes."""
import math

from tests.oracles.common import log_one_plus_sum


def direction(row):
    return row / math.sqrt(row @ row)


def cosines(row, proxies):
    return [row @ direction(proxy) for proxy in proxies]


def classification(logits, label, w_pos, w_neg):
    """mean_i w+ [-z_y + log(exp z_y + w- sum of the others' exp)], as log(1 + w- sum exp(z_k -
    z_y))."""
    total = 0.0
    for i, z in enumerate(logits):
        others = [k for k in range(len(z)) if k != label[i]]
        total += w_pos[i, 0] * log_one_plus_sum((w_neg[i, 0], z[k] - z[label[i]]) for k in others)
    return total / len(label)


def softmax(x, label, triplets, w_pos, w_neg, placement, params, temperature=0.05, lr=None):
    logits = [[c / temperature for c in cosines(row, params["proxies"])] for row in x]
    return classification(logits, label, w_pos, w_neg)


def arcface(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    angular_margin=0.5,
    feature_scale=16.0,
    lr=None,
):
    logits = [[feature_scale * c for c in cosines(row, params["proxies"])] for row in x]
    for row, y in zip(logits, label):
        angle = math.acos(row[y] / feature_scale)
        row[y] = feature_scale * (
            math.cos(angle + angular_margin)
            if angle + angular_margin <= math.pi
            else math.cos(angle) - angular_margin * math.sin(angular_margin)
        )
    return classification(logits, label, w_pos, w_neg)


def cosface(x, label, triplets, w_pos, w_neg, placement, params, margin=0.35, scale=64.0, lr=None):
    logits = [
        [scale * (c - margin * (k == y)) for k, c in enumerate(cosines(row, params["proxies"]))]
        for row, y in zip(x, label)
    ]
    return classification(logits, label, w_pos, w_neg)


def proxynca(
    x, label, triplets, w_pos, w_neg, placement, params, scale=3.0, include_positive=False, lr=None
):
    total = 0.0
    for i, row in enumerate(x):
        square = [
            sum((scale * direction(row) - scale * direction(proxy)) ** 2)
            for proxy in params["proxies"]
        ]
        rivals = [math.exp(-d) for k, d in enumerate(square) if include_positive or k != label[i]]
        total += w_pos[i, 0] * square[label[i]] + (
            w_neg[i, 0] * math.log(math.fsum(rivals)) if rivals else 0.0
        )
    return total / len(label)


def proxyanchor(
    x, label, triplets, w_pos, w_neg, placement, params, alpha=32.0, delta=0.1, lr=None
):
    proxies = [direction(p) for p in params["proxies"]]
    pull, push, present = 0.0, 0.0, 0
    for k, proxy in enumerate(proxies):
        own = [i for i in range(len(label)) if label[i] == k]
        others = [i for i in range(len(label)) if label[i] != k]
        present += bool(own)
        pull += log_one_plus_sum((w_pos[i, 0], -alpha * (x[i] @ proxy - delta)) for i in own)
        w_push = w_pos if placement == "positive" else w_neg
        push += log_one_plus_sum((w_push[i, 0], alpha * (x[i] @ proxy + delta)) for i in others)
    return pull / present + push / len(proxies)


def softtriplet(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    n_centroids=2,
    margin_delta=0.01,
    gamma=0.1,
    scale=8.0,
    reg_weight=0.2,
    lr=None,
):
    centroids, logits, spreading = params["centroids"], [], 0.0
    for row, y in zip(x, label):
        logits.append([])
        for c, group in enumerate(centroids):
            s = cosines(row, group)
            share = [math.exp(value / gamma) for value in s]
            mixed = sum(e * value for e, value in zip(share, s)) / sum(share)
            logits[-1].append(scale * (mixed - margin_delta * (c == y)))
    for group in centroids:
        for j in range(n_centroids):
            for k in range(j + 1, n_centroids):
                spreading += math.sqrt(2 - 2 * direction(group[j]) @ direction(group[k]))
    if n_centroids > 1:
        spreading /= len(centroids) * n_centroids * (n_centroids - 1)
    return classification(logits, label, w_pos, w_neg) + reg_weight * spreading


PROXY_ORACLES = {
    "arcface": arcface,
    "cosface": cosface,
    "proxyanchor": proxyanchor,
    "proxynca": proxynca,
    "softmax": softmax,
    "softtriplet": softtriplet,
}
