"""Paired differences against scipy's paired t test, and by hand."""
import math

import numpy as np
import pytest
from scipy import stats

from evaluation.tables.paired import paired_difference


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_the_interval_is_that_of_the_paired_t_test(n):
    random = np.random.default_rng(n)
    own, other = random.normal(0.7, 0.02, n), random.normal(0.69, 0.03, n)
    found = paired_difference(dict(enumerate(own)), dict(reversed(list(enumerate(other)))))
    oracle = stats.ttest_rel(own, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(own - other)) and found.pairs == n
    assert found.better == sum(a > b for a, b in zip(own, other))


def test_by_hand():
    found = paired_difference({1: 3.0, 2: 5.0, 3: 0.0}, {2: 1.0, 1: 1.0, 4: 9.0})   # differences 2 and 4
    assert found.mean == 3 and (found.better, found.pairs) == (2, 2)
    assert found.high - 3 == pytest.approx(12.7062, abs=1e-3)                      # t(.975, 1) * sqrt(2) / sqrt(2)


def test_one_pair_has_no_interval_and_none_no_difference():
    found = paired_difference({1: 3.0, 2: 9.0}, {1: 1.0})
    assert (found.mean, found.better, found.pairs) == (2.0, 1, 1) and math.isnan(found.low) and math.isnan(found.high)
    assert paired_difference({1: 3.0}, {2: 1.0}) is None and paired_difference({}, {2: 1.0}) is None


def test_an_equal_pair_is_not_better_and_lower_can_be():
    own, other = {1: 0.1, 2: 0.2, 3: 0.5}, {1: 0.2, 2: 0.2, 3: 0.4}
    assert paired_difference(own, other).better == paired_difference(own, other, lower_is_better=True).better == 1
