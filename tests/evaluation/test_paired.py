"""Paired differences against scipy's paired t test, and by hand."""
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation.tables.cells import difference_text
from evaluation.tables.paired import paired_difference


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_the_interval_is_that_of_the_paired_t_test(n):
    random = np.random.default_rng(n)
    own = pd.Series(random.normal(0.7, 0.02, n))
    other = pd.Series(random.normal(0.69, 0.03, n))
    # pairs are found by seed, not by position
    found = paired_difference(own, other[::-1])
    oracle = stats.ttest_rel(own, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(own - other))
    assert found.pairs == n
    assert found.better == sum(a > b for a, b in zip(own, other))


def test_by_hand():
    own = pd.Series({1: 3.0, 2: 5.0, 3: 0.0})
    other = pd.Series({2: 1.0, 1: 1.0, 4: 9.0})
    # differences 2 and 4
    found = paired_difference(own, other)
    assert found.mean == 3
    assert (found.better, found.pairs) == (2, 2)
    # t(.975, 1) * sqrt(2) / sqrt(2)
    assert found.high - 3 == pytest.approx(12.7062, abs=1e-3)


def test_one_pair_has_no_interval():
    found = paired_difference(pd.Series({1: 3.0, 2: 9.0}), pd.Series({1: 1.0}))
    assert (found.mean, found.better, found.pairs) == (2.0, 1, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_without_a_pair_there_is_no_difference():
    other = pd.Series({2: 1.0})
    assert paired_difference(pd.Series({1: 3.0}), other) is None
    assert paired_difference(pd.Series(dtype=float), other) is None


def test_an_equal_pair_is_not_better_and_lower_can_be():
    own = pd.Series({1: 0.1, 2: 0.2, 3: 0.5})
    other = pd.Series({1: 0.2, 2: 0.2, 3: 0.4})
    assert paired_difference(own, other).better == 1
    assert paired_difference(own, other, lower_is_better=True).better == 1


def test_an_infinite_pair_leaves_no_difference_but_a_count():
    own = pd.Series({1: math.inf, 2: 1.0, 3: 2.0})
    for first in (math.inf, 0.5):
        other = pd.Series({1: first, 2: 1.5, 3: 1.0})
        found = paired_difference(own, other)
        assert (found.better, found.pairs) == (1 + (first < 1), 3)
        assert math.isnan(found.mean) and math.isnan(found.low) and math.isnan(found.high)
        assert difference_text("rho_spectrum@1", found) == f"- {found.better}/3"
