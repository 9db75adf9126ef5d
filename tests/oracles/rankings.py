"""Losses over rankings."""
from tests.oracles.common import negatives, positives, relu, sigmoid


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
                w = w if placement == "term" else 1.0
                g = w * sigmoid((x[q] @ x[j] - x[q] @ x[i]) / tau)
                among_all += g
                among_positives += g if j in relevant else 0.0
            if placement == "rank":
                among_all = 1 + w_pos[i, 0] * (among_all - 1)
            precisions.append(among_positives / among_all)
        if relevant:
            aps.append(sum(precisions) / len(relevant))
    return 1 - sum(aps) / len(aps) if aps else 0.0


def supap(
    x,
    label,
    triplets,
    w_pos,
    w_neg,
    placement,
    params,
    tau=0.01,
    rho=100.0,
    delta=0.05,
    alpha=0.9,
    beta=0.6,
    calibration=0.5,
    exclude_self=True,
):
    """ROADMAP: the piecewise bound on the steps of negatives, the step itself for positives, and
    the two hinges."""

    def bound(t):
        if t < 0:
            return sigmoid(t / tau)
        if t <= delta:
            return 0.5 + sigmoid(t / tau)
        return 0.5 + sigmoid(delta / tau) + rho * (t - delta)

    losses = []
    for q in range(len(label)):
        same, other = positives(label, q), negatives(label, q)
        relevant = same if exclude_self else [*same, q]
        if not relevant:
            continue
        precisions = []
        for i in relevant:
            among_positives = 1 + sum(
                1.0 if j == q else w_pos[q, j]
                for j in relevant
                if j != i and x[q] @ x[j] >= x[q] @ x[i]
            )
            among_negatives = sum(w_neg[q, j] * bound(x[q] @ x[j] - x[q] @ x[i]) for j in other)
            precisions.append(among_positives / (among_positives + among_negatives))
        ranking = 1 - sum(precisions) / len(relevant)
        hinges = sum(w_pos[q, p] * relu(alpha - x[q] @ x[p]) for p in same) / max(1, len(same))
        if other:
            hinges += sum(w_neg[q, n] * relu(x[q] @ x[n] - beta) for n in other) / len(other)
        losses.append((1 - calibration) * ranking + calibration * hinges)
    return sum(losses) / len(losses) if losses else 0.0


def recallatk(
    x, label, triplets, w_pos, w_neg, placement, params, ks=(1, 2, 4, 8, 16), tau1=1.0, tau2=0.01
):
    """One minus the recall surrogate, the mean over k and the queries that have a positive."""
    recalls = []
    for q in range(len(label)):
        same = positives(label, q)
        for k in ks if same else ():
            hits = 0.0
            for i in same:
                above = 0.0
                for j in range(len(label)):
                    if j not in (q, i):
                        w = (w_pos if label[j] == label[q] else w_neg)[q, j]
                        above += w * sigmoid((x[q] @ x[j] - x[q] @ x[i]) / tau2)
                hits += sigmoid((k - 1 - above) / tau1)
            recalls.append(hits / len(same))
    return 1 - sum(recalls) / len(recalls) if recalls else 0.0


RANKING_ORACLES = {"recallatk": recallatk, "smoothap": smoothap, "supap": supap}
