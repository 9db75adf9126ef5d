"""Charts: curves stand where their numbers belong, ticks are round, nothing that is no number is drawn."""
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utilities.svg import BOTTOM, HEIGHT, LEFT, POINTS, RIGHT, TOP, WIDTH, Line, Scale, chart, short


def points(figure, kind="line"):
    """The numbers in the paths of a chart, (N, 2) each."""
    paths = [part.get("d") for part in figure.iter("path") if part.get("class").startswith(f"{kind} ")]
    return [np.array(re.findall(r"-?[\d.]+", path), dtype=float).reshape(-1, 2) for path in paths]


def test_the_extremes_of_a_curve_touch_the_edges():
    x, y = np.array([0.0, 1, 2]), np.array([5.0, 9, 7])
    (found,) = points(chart("t", [Line("a", x, y)], "step"))
    assert found[:, 0].tolist() == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    assert found[:, 1].tolist() == [HEIGHT - BOTTOM, TOP, (HEIGHT - BOTTOM + TOP) / 2]


def test_a_logarithmic_scale_spaces_powers_evenly():
    y = np.array([1e-4, 1e-3, 1e-2])
    (found,) = points(chart("t", [Line("a", np.arange(3.0), y)], "step", log=True))
    assert found[1, 1] == pytest.approx(found[[0, 2], 1].mean(), abs=0.1)
    (found,) = points(chart("t", [Line("a", np.arange(3.0), y - 1e-4)], "step", log=True))      # zero has no logarithm
    assert found[1, 1] != pytest.approx(found[[0, 2], 1].mean(), abs=5)


def test_what_is_not_finite_is_left_out():
    line = Line("a", np.arange(4.0), np.array([1, math.nan, math.inf, 3]))
    figure = chart("t", [line, Line("b", np.array([]), np.array([]))], "step")
    assert len(points(figure)) == 1 and len(points(figure)[0]) == 2
    assert "inf" not in "".join(figure.itertext())
    assert chart("t", [Line("a", line.x, line.y * math.nan)], "step") is None


def test_a_band_encloses_its_curve_and_a_single_point_is_a_dot():
    y = np.array([1.0, 2, 3])
    figure = chart("t", [Line("a", y, y, y - 1, y + 1)], "step")
    (band,), (curve,) = points(figure, "band"), points(figure)
    assert (band[:3, 1] < curve[:, 1]).all() and (band[3:][::-1, 1] > curve[:, 1]).all()
    figure = chart("t", [Line("a", y[:1], y[:1])], "step")
    assert figure.find(".//circle") is not None and not points(figure)


@given(st.integers(POINTS + 1, 5000))
def test_long_curves_become_the_means_of_their_parts(length):
    y = np.random.default_rng(0).normal(size=length).cumsum()
    (found,) = points(chart("t", [Line("a", np.arange(float(length)), y)], "step"))
    assert len(found) == POINTS


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.booleans())
def test_ticks_are_round_and_within_the_range(low, width, log):
    low = abs(low) + 1e-6 if log else low
    scale = Scale(low, low + width, 0, 100, log=log)
    ticks = scale.ticks()
    places = [scale(tick) for tick in ticks]
    assert all(-1e-3 <= place <= 100 + 1e-3 for place in places) and len(ticks) <= 9
    assert len(ticks) >= 1 and sorted(ticks) == ticks


@pytest.mark.parametrize("value,text", [(0, "0"), (0.5, "0.5"), (12345.6, "12,346"), (1e-4, "1e-4"), (-3e7, "-3e7"),
                                        (99.96, "100"), (-0.25, "-0.25"), (2.5e-5, "2.5e-5")])
def test_numbers_in_few_characters(value, text):
    assert short(value) == text
