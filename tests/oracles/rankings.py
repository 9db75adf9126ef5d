"""Losses over rankings."""
from tests.oracles.common import sigmoid


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


RANKING_ORACLES = {"smoothap": smoothap}
