"""What the miners draw, exactly: for every anchor, {(p, n): expected number of such triplets in one
call}.

For a miner of one triplet an anchor that is its probability. An empty one means that the anchor is
left out; the first `anchors` rows are anchors (all where None).
"""
from itertools import combinations, permutations

import numpy as np

from tests.oracles.common import negatives, positives


def first(label, anchors):
    return range(len(label) if anchors is None else anchors)


def apart(x, i, j):
    return np.linalg.norm(x[i] - x[j])


def on_sphere(x):
    return [row / np.linalg.norm(row) for row in x]


def combined(ps, ns):
    """Independent choices: {p: chance} and {n: chance} -> {(p, n): chance}."""
    return {(p, n): c * e for p, c in ps.items() for n, e in ns.items()}


def evenly(choices):
    return {c: 1 / len(choices) for c in choices}


def random_triplets(x, label, anchors=None):
    return [
        combined(evenly(positives(label, a)), evenly(negatives(label, a)))
        for a in first(label, anchors)
    ]


def semihard(x, label, anchors=None, margin=0.2):
    """Joint probabilities; they sum to the chance that the drawn positive has a semi-hard
    negative."""
    table = []
    for a in first(label, anchors):
        ps, row = positives(label, a), {}
        for p in ps:
            band = [
                n
                for n in negatives(label, a)
                if apart(x, a, p) < apart(x, a, n) < apart(x, a, p) + margin
            ]
            row.update({(p, n): 1 / (len(ps) * len(band)) for n in band})
        table.append(row)
    return table


def softhard(x, label, anchors=None):
    table = []
    for a in first(label, anchors):
        ps, ns = positives(label, a), negatives(label, a)
        if ps and ns:
            hard_ps = [p for p in ps if apart(x, a, p) > min(apart(x, a, n) for n in ns)]
            hard_ns = [n for n in ns if apart(x, a, n) < max(apart(x, a, p) for p in ps)]
            table.append(combined(evenly(hard_ps or ps), evenly(hard_ns or ns)))
        else:
            table.append({})
    return table


def batch_hard(x, label, anchors=None):
    table = []
    for a in first(label, anchors):
        ps, ns = positives(label, a), negatives(label, a)
        table.append(
            {(max(ps, key=lambda p: apart(x, a, p)), min(ns, key=lambda n: apart(x, a, n))): 1.0}
            if ps and ns
            else {}
        )
    return table


def inverse_density(x, a, ns, lower_cutoff, upper_cutoff):
    """{n: chance} of the negatives of one anchor, on unit rows x."""
    dim, log_chance = len(x[0]), {}
    for n in ns:
        if apart(x, a, n) < upper_cutoff:
            d = max(apart(x, a, n), lower_cutoff)
            log_chance[n] = (2 - dim) * np.log(d) + (3 - dim) / 2 * np.log(max(1 - d * d / 4, 1e-8))
    log_chance = log_chance or dict.fromkeys(ns, 0.0)
    chance = {n: np.exp(c - max(log_chance.values())) for n, c in log_chance.items()}
    return {n: c / sum(chance.values()) for n, c in chance.items()}


def distance_weighted(x, label, anchors=None, lower_cutoff=0.5, upper_cutoff=1.4):
    x, cutoffs = on_sphere(x), (lower_cutoff, upper_cutoff)
    return [
        combined(evenly(positives(label, a)), inverse_density(x, a, negatives(label, a), *cutoffs))
        for a in first(label, anchors)
    ]


def rho_distance(x, label, anchors=None, lower_cutoff=0.5, upper_cutoff=1.4, cp=0.2):
    table = distance_weighted(x, label, anchors, lower_cutoff, upper_cutoff)
    for a, row in enumerate(table):
        if row:
            row.update({pair: (1 - cp) * chance for pair, chance in row.items()})
            ps = positives(label, a)
            pairs = list(permutations(ps, 2)) or [(ps[0], ps[0])]
            row.update({pair: cp / len(pairs) for pair in pairs})
    return table


def random_distance(x, label, anchors=None, lower_cutoff=0.5, upper_cutoff=1.4):
    """Every class that may fall on the anchor, and every set of rows that may share it, alike."""
    x, table, number = on_sphere(x), [], len(label)
    for a in first(label, anchors):
        row, others = {}, [i for i in range(number) if i != a]
        for size in [list(label).count(c) for c in set(label)]:
            sets = list(combinations(others, size - 1))
            for ps in sets if 1 < size < number else []:
                ns = inverse_density(
                    x, a, [i for i in others if i not in ps], lower_cutoff, upper_cutoff
                )
                for pair, chance in combined(evenly(ps), ns).items():
                    row[pair] = row.get(pair, 0) + chance * size / number / len(sets)
        table.append(row)
    return table


def intra_random(x, label, anchors=None):
    return [evenly(list(permutations(positives(label, a), 2))) for a in first(label, anchors)]


def npair(x, label, anchors=None):
    table, paired = [], [a for a in first(label, anchors) if positives(label, a)]
    # anchors to choose from
    size = {c: sum(label[a] == c for a in paired) for c in set(label)}
    classes = {label[a] for a in paired}
    chosen = {
        (b, p): 1 / size[label[b]] / len(positives(label, b))
        for b in paired
        for p in positives(label, b)
    }
    for a in first(label, anchors):
        row = {}
        for p in positives(label, a):
            for (b, n), chance in chosen.items():
                if label[b] != label[a]:
                    row[p, n] = row.get((p, n), 0) + chosen[a, p] * chance / (len(classes) - 1)
        table.append(row)
    return table


def lifted(x, label, anchors=None):
    return [
        {
            (p, n): 1 / len(negatives(label, a))
            for p in positives(label, a)
            for n in negatives(label, a)
        }
        for a in first(label, anchors)
    ]


def thinned(table, cap):
    """Every triplet of the table with the same chance, so that `cap` of them are expected."""
    total = sum(len(row) for row in table)
    return [dict.fromkeys(row, min(1.0, cap / max(total, 1))) for row in table]


def all_triplets(x, label, anchors=None, cap=65536):
    return thinned(
        [
            [(p, n) for p in positives(label, a) for n in negatives(label, a)]
            for a in first(label, anchors)
        ],
        cap,
    )


def multisimilarity(x, label, anchors=None, eps=0.1, cap=65536):
    x, table = on_sphere(x), []
    for a in first(label, anchors):
        ps, ns = positives(label, a), negatives(label, a)
        mined_ps = [p for p in ps if any(x[a] @ x[p] - eps < x[a] @ x[n] for n in ns)]
        mined_ns = [n for n in ns if any(x[a] @ x[n] + eps > x[a] @ x[p] for p in ps)]
        table.append([(p, n) for p in mined_ps for n in mined_ns])
    return thinned(table, cap)


def parametric(
    x,
    label,
    anchors=None,
    mode="semihards",
    n_support=30,
    support_lim=(0.1, 1.4),
    mass=None,
    self_regularise=False,
):
    """With the mass at the start, or a given one. Self-regularised, every row may be the negative
    and every row of the class the positive, the anchor in both."""
    x, width = on_sphere(x), (support_lim[1] - support_lim[0]) / (n_support - 1)
    low, high = {
        "uniform": (0, 9),
        "semihards": (0.3, 0.7),
        "hards": (0, 0.5),
        "veryhards": (0, 0.3),
    }[mode]
    places = [support_lim[0] + k * width + 2 / n_support for k in range(n_support - 1)]
    mass = [1.0 if low <= c <= high else 1e-15 for c in places] if mass is None else mass
    table = []
    for a in first(label, anchors):
        ps, candidates, ns = positives(label, a), negatives(label, a), {}
        if self_regularise:
            ps, candidates = [*ps, a], range(len(label))
        for n in candidates:
            k = int((apart(x, a, n) - support_lim[0]) // width)
            ns[n] = mass[min(max(k, 0), len(mass) - 1)]
        ns = {n: c / sum(ns.values()) for n, c in ns.items()}
        table.append(combined(evenly(ps), ns))
    return table


MINER_ORACLES = {
    "all": all_triplets,
    "batch_hard": batch_hard,
    "distance": distance_weighted,
    "intra_random": intra_random,
    "lifted": lifted,
    "multisimilarity": multisimilarity,
    "npair": npair,
    "parametric": parametric,
    "random": random_triplets,
    "random_distance": random_distance,
    "rho_distance": rho_distance,
    "semihard": semihard,
    "softhard": softhard,
}
