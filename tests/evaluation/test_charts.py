"""Charts: curves stand where their numbers belong, ticks are round, points are finite."""
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    inline,
    make_chart,
    short,
    thinned,
)
from evaluation.report.figures import tick_texts

FLOOR = HEIGHT - BOTTOM


def line(x, y, low=math.nan, high=math.nan, label="a"):
    columns = np.broadcast_arrays(np.asarray(x, dtype=float), y, low, high)
    return Line(label, np.stack(columns, axis=1))


def paths(chart, mark='stroke="var(--c'):
    """The points of the drawing's paths with a mark, (n, 2) each."""
    found = [path for path in re.findall("<path[^>]*>", chart.drawing) if mark in path]
    texts = [re.search(' d="([^"]*)"', path)[1] for path in found]
    return [np.array(re.findall(r"-?[\d.]+", text), dtype=float).reshape(-1, 2) for text in texts]


def ticks(chart):
    """The numbers along y as they are written."""
    return re.findall(r'text-anchor="end"[^>]*>([^<]*)<', chart.drawing)[:-1]


def test_the_extremes_of_a_curve_touch_the_edges():
    (points,) = paths(make_chart("t", [line([0, 1, 2], [5, 9, 7])], "step"))
    assert points[:, 0].tolist() == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    assert points[:, 1].tolist() == [FLOOR, TOP, (FLOOR + TOP) / 2]


def test_a_logarithmic_scale_spaces_powers_evenly():
    y = np.array([1e-4, 1e-3, 1e-2])
    (points,) = paths(make_chart("t", [line(range(3), y)], "step", log=True))
    assert points[1, 1] == pytest.approx(points[[0, 2], 1].mean(), abs=0.1)
    # zero has no logarithm
    (points,) = paths(make_chart("t", [line(range(3), y - 1e-4)], "step", log=True))
    assert points[1, 1] != pytest.approx(points[[0, 2], 1].mean(), abs=5)


def test_what_is_not_finite_is_left_out():
    gaps = line(range(4), [1, math.nan, math.inf, 3])
    chart = make_chart("t", [gaps, line([], [], label="b")], "step")
    assert [len(points) for points in paths(chart)] == [2]
    assert chart.legend == [("a", "3")] and "inf" not in chart.drawing + chart.words
    assert make_chart("t", [line(range(4), math.nan)], "step") is None
    assert make_chart("t", [], "step") is None


def test_a_band_encloses_its_curve():
    y = np.array([1.0, 2, 3])
    chart = make_chart("t", [line(y, y, y - 1, y + 1)], "step")
    (curve,) = paths(chart)
    (band,) = paths(chart, 'fill="var(--c0)"')
    assert (band[:3, 1] > curve[:, 1]).all() and (band[3:][::-1, 1] < curve[:, 1]).all()
    chart = make_chart("t", [line(y, y, [0, math.nan, 2], y + 1)], "step")
    assert not paths(chart, 'fill="var(--c0)"')


def test_a_single_point_is_a_dot():
    chart = make_chart("t", [line([3], [7])], "step")
    (dot,) = paths(chart)
    assert (dot[0] == dot[-1]).all() and 'stroke-linecap="round"' in chart.drawing


@settings(max_examples=20, deadline=None)
@given(st.integers(POINTS + 1, 20_000))
def test_long_curves_become_the_means_of_their_parts(length):
    y = np.random.default_rng(0).normal(size=length).cumsum()
    points = line(np.arange(length), y).points
    short_points = thinned(points)
    assert len(short_points) == POINTS
    weight = [len(part) for part in np.array_split(y, POINTS)]
    assert np.average(short_points[:, 1], weights=weight) == pytest.approx(y.mean())


def test_a_long_run_stays_small():
    noise = np.random.default_rng(0).normal(size=10_000)
    chart = make_chart("t", [line(np.arange(10_000), noise, noise - 1, noise + 1)], "step")
    assert len(chart.drawing) < 20_000


@settings(max_examples=20, deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.booleans())
def test_ticks_are_round_and_within_the_range(low, width, log):
    low = abs(low) + 1e-6 if log else low
    chart = make_chart("t", [line([0, 1], [low, low + width])], "step", log=log)
    grid = paths(chart, "var(--rule)")
    assert 1 <= len(grid) == len(ticks(chart)) <= 12
    heights = [points[0, 1] for points in grid]
    assert heights == sorted(heights, reverse=True) and TOP <= heights[-1] <= heights[0] <= FLOOR


def number(text):
    return float(text.replace(",", ""))


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(-9, 9), st.booleans())
def test_ticks_of_any_range_differ_and_stand_where_their_numbers_belong(low, power, log):
    low = abs(low) + 1e-6 if log else low
    high = low + 10 ** power
    chart = make_chart("t", [line([0, 1], [low, high])], "step", log=log)
    texts = ticks(chart)
    values = np.array([number(text) for text in texts])
    assert len(set(texts)) == len(texts) and (np.diff(values) > 0).all()
    height = np.array([points[0, 1] for points in paths(chart, "var(--rule)")])
    scale = np.log(values) if log and high >= 10 * low else values
    if len(values) > 2:
        # an interval of ticks is at most a hundredth away from its text
        expected = np.interp(scale, scale[[0, -1]], height[[0, -1]])
        assert np.abs(expected - height).max() < 0.05 * (height[0] - height[-1])
    # the drawing has room for the longest
    (curve,) = paths(chart)
    assert curve[0, 0] >= 7 * max(map(len, texts))


@pytest.mark.parametrize("values,texts", [
    ([99.96, 99.98, 100], ["99.96", "99.98", "100.00"]),
    ([0.1, 0.15, 0.2], ["0.10", "0.15", "0.20"]),
    ([-0.5, -0.0, 0.5], ["-0.5", "0.0", "0.5"]),
    ([1114.5, 1115, 1115.5], ["1,114.5", "1,115.0", "1,115.5"]),
    ([1.2e6, 1.25e6], ["1.20e6", "1.25e6"]),
    ([0, 5e-5, 1e-4], ["0", "5e-5", "1e-4"]),
    ([7], ["7"]),
    ([], []),
])
def test_ticks_have_as_many_digits_as_they_need(values, texts):
    assert tick_texts(np.array(values, dtype=float)) == texts


def test_the_drawing_suits_a_page_with_a_strict_policy():
    lines = [line([0, 1], [1, 2], label=str(i)) for i in range(5)]
    chart = make_chart("t", lines, "step")
    assert not re.search(r"style|id=|url|href|font|#[0-9a-f]{6}|<g", chart.drawing)
    assert all(f"var(--c{i})" in chart.drawing for i in range(4))
    assert chart == make_chart("t", lines, "step")  # the same bytes twice
    assert chart.words.startswith("t over the steps: 0 from 1 to 2, 1 from 1 to 2")
    assert ticks(chart) == ["1.00", "1.25", "1.50", "1.75", "2.00"] and ">step</text>" in chart.drawing


def test_only_what_the_figure_shows_is_taken():
    path = '<path d="M 1.26 2 \nL 3 4 \n" style="fill: none"/>'
    svg = f'<svg><title>t</title><g id="figure_1">{path}</g></svg>'
    assert inline(svg) == '<path d="M 1.3 2 L 3 4 " fill="none"/>'


@pytest.mark.parametrize("value,text", [
    (0, "0"),
    (0.5, "0.5"),
    (12345.6, "12,346"),
    (1e-4, "1e-4"),
    (-3e7, "-3e7"),
    (99.96, "100"),
    (-0.25, "-0.25"),
    (2.5e-5, "2.5e-5"),
])
def test_numbers_in_few_characters(value, text):
    assert short(value) == text
