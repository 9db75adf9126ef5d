"""policy.png: what the policy chose in each step, and how it helped."""
import math
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context

from evaluation.report.figures import (
    BLUE,
    GREEN,
    INK,
    LOOK,
    ORANGE,
    column,
    curve,
    draw_noisy,
    draw_nothing,
    label_axes,
    marker,
    new_figure,
    smooth,
    tick_texts,
)

LABELS = 12  # rows of a heat map that are all labelled; of more, some are
STEP = "training step"
AP = "average precision"
HELD_OUT = "held_out_advantage"
COLOURS = {"positive": BLUE, "negative": ORANGE}


@rc_context(LOOK)
def plot_policy(
    records: list[dict],
    path,
    positive_values: Sequence[float],
    negative_values: Sequence[float],
    names: tuple[str, str] = ("b_p", "b_n"),
    history: Sequence[dict] = (),
) -> None:
    """Draw the probability of every action, entropy, reward, gain and correlation over the steps.

    records: one dict a logged step with "step", "reward", "advantage_spread", "entropy_positive",
    "entropy_negative" (nats), "probability_positive", "probability_negative" (one number an action)
    and, where they were measured, "advantage_over_uniform", "correlation_positive" and
    "correlation_negative". history: rows with "step" and, where it was measured,
    "held_out_advantage" with its standard error "held_out_advantage_error". The values are those of
    the actions; the line in a map is their expectation.
    """
    figure = new_figure(13.5, 7.6, "Choices of the policy, and its gain")
    above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    maps = above.subplots(1, 2)
    entropy, reward, advantage, correlation = below.subplots(1, 4)
    values = (positive_values, negative_values)
    for axes, sign, name, grid in zip(maps, COLOURS, names, values):
        grid = np.asarray(grid, dtype=float)
        label_axes(axes, f"Probability of each action, {sign} pairs", STEP, f"action {name}")
        _draw_actions(above, axes, records, f"probability_{sign}", grid)
        _draw_entropy(entropy, records, sign, name, len(grid))
    _finish_entropy(entropy)
    _draw_reward(reward, records)
    _draw_advantage(advantage, records, history)
    _draw_correlation(correlation, records)
    figure.savefig(path)


def _draw_actions(figure, axes, records: list[dict], key: str, values: np.ndarray) -> None:
    """A heat map, one row an action; the expected value over it where the values ascend."""
    records = [row for row in records if row.get(key)]
    if not records:
        draw_nothing(axes)
        return
    step = column(records, "step")  # (T,)
    probability = np.array([row[key] for row in records], dtype=float)  # (T, A)
    rows = np.arange(len(values))
    borders = np.append(rows, len(values)) - 0.5
    scale = {"cmap": "Blues", "vmin": 0, "vmax": max(probability.max(), 1e-9)}
    cells = axes.pcolormesh(_edges(step), borders, probability.T, rasterized=True, **scale)
    bar = figure.colorbar(cells, ax=axes, pad=0.02, aspect=30, label="probability")
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    if (np.diff(values) > 0).all():
        _draw_expected(axes, step, probability @ values, values)
    if len(values) > LABELS:
        rows = np.linspace(0, len(values) - 1, 9).round().astype(int)
    axes.set_yticks(rows, tick_texts(values[rows]))


def _draw_expected(axes, step: np.ndarray, expected: np.ndarray, values: np.ndarray) -> None:
    """The expected value (T,) over the rows of the heat map."""
    row = np.interp(expected, values, np.arange(len(values)))  # (T,)
    label = f"expected value, last {expected[-1]:.3g}"
    axes.plot(step, row, color="white", linewidth=3.4)
    axes.plot(step, row, color=ORANGE, linewidth=1.8, marker=marker(step), label=label)
    axes.legend(loc="lower left", bbox_to_anchor=(0.58, 1.0), borderpad=0.2)


def _edges(step: np.ndarray) -> np.ndarray:
    """Borders of cells around the steps, (T + 1,); the outermost as wide as their neighbours."""
    if len(step) == 1:
        return np.array([step[0] - 1, step[0] + 1])
    middle = (step[1:] + step[:-1]) / 2  # (T - 1,)
    first = 2 * step[0] - middle[0]
    last = 2 * step[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _draw_entropy(axes, records: list[dict], sign: str, name: str, actions: int) -> None:
    """The entropy of a head, below the dashed line of uniform choice."""
    colour = COLOURS[sign]
    draw_noisy(axes, *curve(records, f"entropy_{sign}", "step"), colour, f"{name}, {sign} pairs")
    axes.axhline(math.log(actions), color=colour, linestyle=(0, (4, 3)), linewidth=1)


def _finish_entropy(axes) -> None:
    """Limits that show zero and the uniform choice of both heads."""
    values = [line.get_ydata() for line in axes.lines]
    low = min(0, *map(min, values))
    high = max(math.log(2), *map(max, values))
    axes.set_ylim(1.12 * low, 1.12 * high)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    label_axes(axes, "Entropy (dashed: uniform choice)", STEP, "nats")


def _draw_reward(axes, records: list[dict]) -> None:
    """The reward, and around it how far the sampled actions spread."""
    draw_noisy(axes, *curve(records, "reward", "step"), GREEN, None)
    both = [row for row in records if {"reward", "advantage_spread"} <= row.keys()]
    step, centre = curve(both, "reward", "step")
    spread = curve(both, "advantage_spread", "step")[1]
    if len(centre) == len(spread) > 0:
        centre = smooth(centre)
        spread = smooth(spread)
        style = {"color": GREEN, "alpha": 0.15, "linewidth": 0}
        axes.fill_between(step, centre - spread, centre + spread, **style)
    label_axes(axes, "Reward (band: spread of the advantage)", STEP, AP)


def _draw_advantage(axes, records: list[dict], history: Sequence[dict]) -> None:
    """The reward minus that of uniform weights: above zero the policy helps.

    On training batches, and with its standard error on batches of held-out classes.
    """
    held = [row for row in history if "step" in row and row.get(HELD_OUT) is not None]
    step, value = curve(records, "advantage_over_uniform", "step")
    if len(step) or not held:
        draw_noisy(axes, step, value, BLUE, "training batches")
    if held:
        error = np.nan_to_num(column(held, f"{HELD_OUT}_error"))
        style = {"color": ORANGE, "fmt": "o-", "markersize": 3.5, "linewidth": 1.2, "capsize": 2}
        points = (column(held, "step"), column(held, HELD_OUT), error)
        axes.errorbar(*points, label="held-out classes", **style)
        axes.legend()
    if axes.has_data():
        axes.axhline(0, color=INK, linewidth=0.9)
    label_axes(axes, "Advantage over uniform weights", STEP, AP)


def _draw_correlation(axes, records: list[dict]) -> None:
    """An image's largest weight against its AP: below zero, bad retrieval gets large weights."""
    for sign, colour in COLOURS.items():
        step, value = curve(records, f"correlation_{sign}", "step")
        if len(step):
            draw_noisy(axes, step, value, colour, f"{sign} pairs")
    if axes.has_data():
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.legend()
    else:
        draw_nothing(axes)
    label_axes(axes, "Largest weight of an image and its AP", STEP, "correlation over images")
