"""Losses over pairs and tuples of images."""
import math

import numpy as np

from tests.oracles.common import log_one_plus_sum, negatives, positives, relu


def gpw(x, label, triplets, w_pos, w_neg, placement, params):
    anchors = []
    for i in range(len(label)):
        ps, ns = positives(label, i), negatives(label, i)
        if ps and ns:
            anchors.append(
                sum(w_neg[i, n] * (x[i] @ x[n]) for n in ns) / len(ns)
                - sum(w_pos[i, p] * (x[i] @ x[p]) for p in ps) / len(ps)
            )
    return math.fsum(anchors) / len(anchors) if anchors else 0.0


def margin(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    margin=0.2,
    beta=1.2,
    beta_constant=False,
    nu=0.0,
):
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
        # booleans of numpy add to one
        count += int(near > 0) + int(far > 0)
    return total / count if count else 0.0


def multisimilarity(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    pos_weight=2.0,
    neg_weight=40.0,
    margin=0.1,
    thresh=0.5,
):
    total = 0.0
    for i in range(len(label)):
        ps, ns = positives(label, i), negatives(label, i)
        if not ps or not ns:
            continue
        hard_negative, hard_positive = max(x[i] @ x[n] for n in ns), min(x[i] @ x[p] for p in ps)
        ps, ns = (
            [p for p in ps if x[i] @ x[p] - margin < hard_negative],
            [n for n in ns if x[i] @ x[n] + margin > hard_positive],
        )
        total += (
            log_one_plus_sum((w_pos[i, p], -pos_weight * (x[i] @ x[p] - thresh)) for p in ps)
            / pos_weight
        )
        total += (
            log_one_plus_sum((w_neg[i, n], neg_weight * (x[i] @ x[n] - thresh)) for n in ns)
            / neg_weight
        )
    return total / len(label)


def apart(one, other):
    return math.sqrt(sum((one - other) ** 2))


def mean_of(values, nonzero=False):
    """Mean of (weight, term) pairs' products over all, or over the positive terms; over none of
    them zero."""
    values = [(w, term) for w, term in values if term > 0 or not nonzero]
    return math.fsum(w * term for w, term in values) / len(values) if values else 0.0


def contrastive(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    pos_margin=0.0,
    neg_margin=1.0,
    avg_nonzero=False,
):
    pull = [(w_pos[a, p], relu(apart(x[a], x[p]) - pos_margin)) for a, p, n in triplets]
    push = [(w_neg[a, n], relu(neg_margin - apart(x[a], x[n]))) for a, p, n in triplets]
    return mean_of(pull, avg_nonzero) + mean_of(push, avg_nonzero)


def triplet(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    margin=0.2,
    euclidean=False,
    avg_nonzero=False,
    soft_margin=False,
):
    power, terms = 1 if euclidean else 2, []
    for a, p, n in triplets:
        gap = apart(x[a], x[p]) ** power - apart(x[a], x[n]) ** power
        terms.append(
            (
                w_pos[a, p] * w_neg[a, n],
                math.log(1 + math.exp(gap)) if soft_margin else relu(gap + margin),
            )
        )
    return mean_of(terms, avg_nonzero)


def mean_length(x, triplets):
    return sum(math.sqrt(row @ row) for row in x) / len(x) if triplets else 0.0


def npair(x, label, triplets, w_pos, w_neg, placement, params, l2=0.005, multiclass=False):
    terms = []
    for a, p, _ in triplets:
        ns = (
            [q for b, q, _ in triplets if label[b] != label[a]]
            if multiclass
            else negatives(label, a)
        )
        terms.append(
            (w_pos[a, p], log_one_plus_sum((w_neg[a, n], x[a] @ x[n] - x[a] @ x[p]) for n in ns))
        )
    return mean_of(terms) + l2 * mean_length(x, triplets)


def angular(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    alpha=45.0,
    npair_ang_weight=2.0,
    npair_l2=0.005,
    angular_only=False,
):
    u, t, terms = [row / math.sqrt(row @ row) for row in x], math.tan(alpha * math.pi / 180), []
    for a, p, _ in triplets:
        terms.append(
            (
                w_pos[a, p],
                log_one_plus_sum(
                    (
                        w_neg[a, n],
                        4 * t**2 * ((u[a] + u[p]) @ u[n]) - 2 * (1 + t**2) * (u[a] @ u[p]),
                    )
                    for n in negatives(label, a)
                ),
            )
        )
    if angular_only:
        return mean_of(terms)
    without_norm = npair(x, label, triplets, w_pos, w_neg, placement, params, l2=0.0)
    return without_norm + npair_ang_weight * mean_of(terms) + npair_l2 * mean_length(x, triplets)


def snr(x, label, triplets, w_pos, w_neg, placement, params, margin=0.2, reg_lambda=0.005):
    def variance(row):
        return sum((row - sum(row) / len(row)) ** 2) / len(row)

    terms = [
        (
            w_pos[a, p] * w_neg[a, n],
            relu(
                variance(x[a] - x[p]) / variance(x[a])
                - variance(x[a] - x[n]) / variance(x[a])
                + margin
            ),
        )
        for a, p, n in triplets
    ]
    return mean_of(terms, nonzero=True) + reg_lambda * mean_of(
        (1, abs(sum(x[a]))) for a, p, n in triplets
    )


def quadruplet(
    x,
    label,
    quadruplets,
    w_pos,
    w_neg,
    placement,
    params,
    margin_alpha_1=0.2,
    margin_alpha_2=0.2,
    squared=False,
):
    power, first, second = 2 if squared else 1, [], []
    for a, p, n, m in quadruplets:
        near, weight = apart(x[a], x[p]) ** power, w_pos[a, p] * w_neg[a, n]
        first.append((weight, relu(near - apart(x[a], x[n]) ** power + margin_alpha_1)))
        second.append((weight, relu(near - apart(x[n], x[m]) ** power + margin_alpha_2)))
    return mean_of(first) + mean_of(second)


def lifted(x, label, triplets, w_pos, w_neg, placement, params, neg_margin=1.0, l2=0.005):
    hinges = []
    for a in range(len(label)):
        pull = math.fsum(w_pos[a, p] * math.exp(apart(x[a], x[p])) for p in positives(label, a))
        push = math.fsum(
            w_neg[a, n] * math.exp(neg_margin - apart(x[a], x[n])) for n in negatives(label, a)
        )
        if positives(label, a):
            hinges.append(relu(math.log(pull) + math.log(push)) if pull and push else 0.0)
    return (sum(hinges) / len(hinges) if hinges else 0.0) + l2 * sum(
        math.sqrt(row @ row) for row in x
    ) / len(x)


def histogram(x, label, triplets, w_pos, w_neg, placement, params, nbins=65):
    """Over pairs i < j with the mean of their two weights."""
    width, histograms = 2 / (nbins - 1), {True: [0.0] * nbins, False: [0.0] * nbins}
    total = {True: 0.0, False: 0.0}
    for i in range(len(label)):
        for j in range(i + 1, len(label)):
            same = label[i] == label[j]
            w = (w_pos[i, j] + w_pos[j, i] if same else w_neg[i, j] + w_neg[j, i]) / 2
            total[same] += w
            for r in range(nbins):
                histograms[same][r] += w * relu(1 - abs(x[i] @ x[j] - (-1 + r * width)) / width)
    if not total[True] or not total[False]:
        return 0.0
    return math.fsum(
        histograms[False][r] / total[False] * histograms[True][q] / total[True]
        for r in range(nbins)
        for q in range(r + 1)
    )


def circle(x, label, triplets, w_pos, w_neg, placement, params, margin=0.4, gamma=80.0, at=None):
    """The paces are those of the rows `at`, since they carry no gradient."""
    at, anchors = x if at is None else at, []
    for i in range(len(label)):
        ps, ns = positives(label, i), negatives(label, i)
        if ps and ns:
            anchors.append(
                log_one_plus_sum(
                    (
                        w_pos[i, p] * w_neg[i, n],
                        gamma * relu(at[i] @ at[n] + margin) * (x[i] @ x[n] - margin)
                        - gamma * relu(1 + margin - at[i] @ at[p]) * (x[i] @ x[p] - 1 + margin),
                    )
                    for p in ps
                    for n in ns
                )
            )
    return sum(anchors) / len(anchors) if anchors else 0.0


def supcon(x, label, triplets, w_pos, w_neg, placement, params, temperature=0.1):
    anchors = []
    for i in range(len(label)):
        ps = positives(label, i)
        whole = math.fsum(
            (1 if label[j] == label[i] else w_neg[i, j]) * math.exp(x[i] @ x[j] / temperature)
            for j in range(len(label))
            if j != i
        )
        if ps:
            anchors.append(
                sum(
                    -w_pos[i, p] * math.log(math.exp(x[i] @ x[p] / temperature) / whole) for p in ps
                )
                / len(ps)
            )
    return sum(anchors) / len(anchors) if anchors else 0.0


def adversarial_separation(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    on="multisimilarity",
    on_arguments=None,
    parts=2,
    hidden=512,
    weight=1500.0,
    reg_weight=0.0,
    lr=None,
    at=None,
):
    """The separation is that of the rows 2 at - x: the value at x, with the slope turned round."""
    inner = {
        key.removeprefix("base."): value for key, value in params.items() if key.startswith("base.")
    }
    total = PAIR_ORACLES[on](
        x, label, triplets, w_pos, w_neg, placement, inner, **(on_arguments or {})
    )
    turned, width, f = x if at is None else 2 * at - x, x.shape[1] // parts, 0
    for i in range(parts):
        for j in range(i + 1, parts):
            w1, b1, w2, b2 = (params[key][f] for key in ("w1", "b1", "w2", "b2"))
            similar = 0.0
            for row in turned:
                target, source = (row[k * width : (k + 1) * width] for k in (i, j))
                predicted = w2 @ np.maximum(w1 @ source / math.sqrt(source @ source) + b1, 0) + b2
                product = (
                    target
                    / math.sqrt(target @ target)
                    * predicted
                    / math.sqrt(predicted @ predicted)
                )
                similar += product @ product / width / len(x)
            total -= weight * similar
            for w, b in ((w1, b1), (w2, b2)):
                total += reg_weight * (
                    sum((row @ row - 1) ** 2 for row in w) / len(w) + relu(b @ b - 1)
                )
            f += 1
    return total


PAIR_ORACLES = {
    "adversarial_separation": adversarial_separation,
    "angular": angular,
    "circle": circle,
    "contrastive": contrastive,
    "gpw": gpw,
    "histogram": histogram,
    "lifted": lifted,
    "margin": margin,
    "multisimilarity": multisimilarity,
    "npair": npair,
    "quadruplet": quadruplet,
    "snr": snr,
    "supcon": supcon,
    "triplet": triplet,
}
