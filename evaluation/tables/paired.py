"""Differences between runs of equal seeds."""
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit


class Difference(NamedTuple):
    """The mean of own minus other over the pairs, its 95 % interval (NaN for one pair), and in how
    many of the pairs own is better. Where one of the two is infinite all three numbers are NaN."""

    mean: float
    low: float
    high: float
    better: int
    pairs: int


def paired_difference(own: pd.Series, other: pd.Series, *,
                      lower_is_better: bool = False) -> Difference | None:
    """own, other: a metric by seed -> their difference over the n seeds in common, or None.

        mean +- t s / sqrt(n),   t the .975 quantile of Student's distribution with n - 1 degrees
        of freedom, s the standard deviation (n - 1) of the differences

    Runs of equal seeds share split, batches and first weights, so that the difference is free of
    what these do to both. The interval assumes normally distributed differences. The count of
    better pairs assumes nothing; an equal pair is not better.
    """
    seeds = own.index[own.index.isin(other.index)]
    if seeds.empty:
        return None
    d = own[seeds] - other[seeds]  # (n,)
    is_better = d < 0 if lower_is_better else d > 0
    if not np.isfinite(d).all():
        return Difference(math.nan, math.nan, math.nan, int(is_better.sum()), len(d))
    mean = d.mean()
    half = stdtrit(len(d) - 1, 0.975) * d.std() / math.sqrt(len(d))
    return Difference(mean, mean - half, mean + half, int(is_better.sum()), len(d))
