"""Losses over pairs and tuples of images."""
import math

from tests.oracles.common import log_one_plus_sum, negatives, positives, relu


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


PAIR_ORACLES = {"gpw": gpw, "margin": margin, "multisimilarity": multisimilarity}
