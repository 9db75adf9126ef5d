"""Differences between runs of equal seeds."""
import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

LOWER_IS_BETTER = ("fnmr@",)


class Difference(NamedTuple):
    """mean of own minus other over the pairs, its 95 % interval (nan for one pair), and how many of them are better."""

    mean: float
    low: float
    high: float
    better: int
    pairs: int


def paired_difference(own: dict[int, float], other: dict[int, float], *, lower_is_better: bool = False
                      ) -> Difference | None:
    """own, other: a metric by seed -> their difference over the n seeds in common, None where there is none.

        mean +- t s / sqrt(n),   t the .975 quantile of Student's distribution with n - 1 degrees of freedom,
        s the standard deviation (n - 1) of the differences

    Pairs of equal seeds have the same split, batches and first weights in common, whose share of the spread the
    difference is free of. The interval takes the differences for normally distributed; the count of better pairs
    assumes nothing, and an equal pair is not better.
    """
    seeds = [seed for seed in own if seed in other]
    if not seeds:
        return None
    d = np.array([own[seed] - other[seed] for seed in seeds])                      # (n,)
    half = math.nan if len(d) == 1 else stdtrit(len(d) - 1, 0.975) * d.std(ddof=1) / math.sqrt(len(d))
    better = int(((d < 0) if lower_is_better else (d > 0)).sum())
    return Difference(float(d.mean()), float(d.mean() - half), float(d.mean() + half), better, len(d))
