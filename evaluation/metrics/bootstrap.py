"""Intervals over classes: how a metric would vary with other test classes (Efron and Tibshirani,
1993).

A zero-shot result generalises over test classes, not images. So classes are drawn with
replacement, and the 95 % percentile interval of the metric over the draws is reported. Every
metric of a call sees the same draws.
"""
import torch
from torch import Tensor

from utilities.errors import RunError

LEVEL = 0.95
CELLS = 2**20  # numbers gathered at once (8 MB)


def ratio_interval(part: Tensor, whole: Tensor, resamples: int,
                   seed: int = 0) -> tuple[float, float]:
    """Interval of sum_c part_c / sum_c whole_c: a mean over queries, pairs or classes.

    part, whole (C,): what each class contributes; a class drawn twice contributes twice. Classes
    that contribute nothing to the denominator (in retrieval: of one image) are not drawn from.
    """
    counted = whole > 0  # (C,)
    both = torch.stack([part[counted], whole[counted]], 1)
    part, whole = resampled_sums(both, resamples, seed).unbind(1)
    return _percentiles(part / whole)


def influence_interval(value: Tensor, resamples: int, seed: int = 0) -> tuple[float, float]:
    """Interval of another metric, from its values without each class.

    value (C + 1,): the metric, then the metric without class c. The influence of class c is
    I_c = (C - 1) (value - value without c), and a draw in which c stands m_c times gives
    value + mean_c (m_c - 1) I_c (a bootstrap of the jackknife's pseudo-values). Drawing copies of a
    class instead would put them into one cluster and at distance zero, and the interval below the
    metric itself (tests/evaluation/test_bootstrap.py shows it, and that these intervals cover).
    Where a left-out value is infinite or undefined the interval is (-inf, inf).
    """
    value = value.double().cpu()
    whole = value[0]
    without = value[1:]
    influence = (len(without) - 1) * (whole - without)  # (C,)
    if not influence.isfinite().all():
        return -torch.inf, torch.inf
    draws = resampled_sums(influence[:, None], resamples, seed)[:, 0]  # (resamples,)
    return _percentiles(whole + (draws - influence.sum()) / len(without))


def resampled_sums(part: Tensor, resamples: int, seed: int = 0) -> Tensor:
    """Sums of C rows drawn with replacement from part (C, P), (resamples, P).

    The draws depend on C and seed alone.
    """
    part = part.double().cpu()
    classes = len(part)
    if classes < 2:
        raise RunError("evaluation: an interval over classes needs two classes or more with "
                       "something to measure; leave --eval_bootstrap out.")
    generator = torch.Generator().manual_seed(seed)
    sums = []
    for many in torch.arange(resamples).split(max(1, CELLS // part.numel())):
        drawn = torch.randint(classes, (len(many), classes), generator=generator)  # (draws, C)
        sums.append(part[drawn].sum(1))  # (draws, P)
    return torch.cat(sums)


def _percentiles(value: Tensor) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    shares = torch.tensor([tail, 1 - tail], dtype=value.dtype)
    low, high = value.quantile(shares).tolist()
    return low, high
