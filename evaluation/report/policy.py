"""policy.png: what the policy chose in each step, and how it helped."""
import math
from collections.abc import Sequence

import numpy as np

from evaluation.report.figures import BLUE, GREEN, INK, ORANGE, QUIET, column, label_axes, new_figure

LABELS = 12  # rows of a heat map that are all labelled; of more, some are
STEP = "training step"


def plot_policy(
    records: list[dict],
    path,
    positive_values: Sequence[float],
    negative_values: Sequence[float],
    names: tuple[str, str] = ("b_p", "b_n"),
    history: Sequence[dict] = (),
) -> None:
    """Draw the probability of every action over the training, entropy, reward, gain and correlation.

    records: one dict a logged step with "step", "reward", "advantage_spread", "entropy_positive", "entropy_negative"
    (nats), "probability_positive", "probability_negative" (one number an action) and, where they were measured,
    "advantage_over_uniform", "correlation_positive" and "correlation_negative". history: rows with "step" and, where
    it was measured, "held_out_advantage" with its standard error "held_out_advantage_error". The values are those of
    the actions; the line in a map is their expectation.
    """
    figure = new_figure(13.5, 7.6, "What the policy chose, and its gain")
    above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    values = {
        "positive": np.asarray(positive_values, dtype=float),
        "negative": np.asarray(negative_values, dtype=float),
    }
    for axes, name, sign in zip(above.subplots(1, 2), names, values):
        label_axes(axes, f"Weights of the {sign} pairs", STEP, f"action {name}", grid=False)
        _draw_actions(above, axes, records, f"probability_{sign}", values[sign])
    entropy, reward, advantage, correlation = below.subplots(1, 4)
    _draw_entropy(entropy, records, values, names)
    _draw_reward(reward, records)
    _draw_advantage(advantage, records, history)
    _draw_correlation(correlation, records)
    figure.savefig(path)


def _draw_actions(figure, axes, records: list[dict], key: str, values: np.ndarray) -> None:
    """A heat map, one row an action; the expected value over it where the values ascend."""
    records = [row for row in records if row.get(key)]
    if not records:
        _draw_nothing(axes)
        return
    step = np.array([row["step"] for row in records], dtype=float)  # (T,)
    probability = np.array([row[key] for row in records], dtype=float)  # (T, A)
    rows = np.arange(len(values))
    colours = axes.pcolormesh(_edges(step), np.arange(len(values) + 1) - 0.5, probability.T, cmap="Blues",
                              vmin=0, vmax=max(probability.max(), 1e-9), rasterized=True)
    bar = figure.colorbar(colours, ax=axes, pad=0.02, aspect=30)
    bar.set_label("probability", fontsize=8, color=QUIET)
    bar.ax.tick_params(labelsize=7, colors=QUIET)
    bar.outline.set_visible(False)
    if (np.diff(values) > 0).all():
        _draw_expected(axes, step, probability @ values, values)
    if len(values) > LABELS:
        rows = np.linspace(0, len(values) - 1, 9).round().astype(int)
    axes.set_yticks(rows, [f"{value:.3g}" for value in values[rows]])


def _draw_expected(axes, step: np.ndarray, expected: np.ndarray, values: np.ndarray) -> None:
    """The expected value (T,) over the rows of the heat map."""
    row = np.interp(expected, values, np.arange(len(values)))  # (T,)
    axes.plot(step, row, color="white", linewidth=3.4)
    axes.plot(step, row, color=ORANGE, linewidth=1.8, marker="o" if len(step) == 1 else None,
              label=f"expected value, last {expected[-1]:.3g}")
    axes.legend(fontsize=7.5, loc="lower left", bbox_to_anchor=(0.58, 1.0), frameon=False, borderpad=0.2)


def _edges(step: np.ndarray) -> np.ndarray:
    """Borders of cells around the steps, (T + 1,); the outermost as wide as their neighbours."""
    if len(step) == 1:
        return np.array([step[0] - 1, step[0] + 1])
    middle = (step[1:] + step[:-1]) / 2  # (T - 1,)
    first = 2 * step[0] - middle[0]
    last = 2 * step[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _draw_entropy(axes, records: list[dict], values: dict[str, np.ndarray], names: tuple[str, str]) -> None:
    """Entropies of both heads, each below the dashed line of uniform choice."""
    lowest = 0
    for sign, name, colour in zip(values, names, (BLUE, ORANGE)):
        step, value = column(records, f"entropy_{sign}", "step")
        _draw_noisy(axes, step, value, colour, f"{name}, {sign} pairs")
        axes.axhline(math.log(len(values[sign])), color=colour, linestyle=(0, (4, 3)), linewidth=1)
        lowest = min(lowest, value.min(initial=0))
    most = max(2, *map(len, values.values()))
    axes.set_ylim(1.12 * lowest, 1.12 * math.log(most))
    if axes.get_legend_handles_labels()[0]:
        _draw_legend(axes)
    label_axes(axes, "Entropy (dashed: uniform choice)", STEP, "nats")


def _draw_reward(axes, records: list[dict]) -> None:
    """The reward, and around it how far the sampled actions spread."""
    _draw_noisy(axes, *column(records, "reward", "step"), GREEN, None)
    both = [row for row in records if "reward" in row and "advantage_spread" in row]
    step, reward = column(both, "reward", "step")
    spread = column(both, "advantage_spread", "step")[1]
    if len(reward) == len(spread) == len(both):
        centre = _smooth(reward)
        width = _smooth(spread)
        axes.fill_between(step, centre - width, centre + width, color=GREEN, alpha=0.15, linewidth=0)
    label_axes(axes, "Reward (band: spread of the advantage)", STEP, "average precision")


def _draw_advantage(axes, records: list[dict], history: Sequence[dict]) -> None:
    """The reward minus that of uniform weights: above zero the policy helps.

    On training batches, and with its standard error on batches of held-out classes.
    """
    held = [row for row in history if "step" in row and row.get("held_out_advantage") is not None]
    step, value = column(records, "advantage_over_uniform", "step")
    if len(step) or not held:
        _draw_noisy(axes, step, value, BLUE, "training batches")
    if held:
        steps = [row["step"] for row in held]
        values = [row["held_out_advantage"] for row in held]
        errors = [row.get("held_out_advantage_error") or 0 for row in held]
        axes.errorbar(steps, values, errors, color=ORANGE, fmt="o-", markersize=3.5, linewidth=1.2, capsize=2,
                      label="held-out classes")
        _draw_legend(axes)
    if axes.has_data():
        axes.axhline(0, color=INK, linewidth=0.9)
    label_axes(axes, "Advantage over uniform weights", STEP, "average precision")


def _draw_correlation(axes, records: list[dict]) -> None:
    """An image's largest weight against its AP: below zero, weights are large where retrieval is bad."""
    for sign, colour in (("positive", BLUE), ("negative", ORANGE)):
        step, value = column(records, f"correlation_{sign}", "step")
        if len(step):
            _draw_noisy(axes, step, value, colour, f"{sign} pairs")
    if axes.has_data():
        axes.axhline(0, color=INK, linewidth=0.9)
        _draw_legend(axes)
    else:
        _draw_nothing(axes)
    label_axes(axes, "Largest weight with AP", STEP, "correlation over images")


def _draw_noisy(axes, step: np.ndarray, value: np.ndarray, colour: str, label: str | None) -> None:
    """The values faintly, their running mean on top."""
    if not len(step):
        _draw_nothing(axes)
        return
    axes.plot(step, value, color=colour, linewidth=0.8, alpha=0.3)
    marker = "o" if len(step) == 1 else None
    axes.plot(step, _smooth(value), color=colour, linewidth=1.8, label=label, marker=marker)
    if len(step) == 1:
        axes.set_xlim(step[0] - 1, step[0] + 1)


def _smooth(value: np.ndarray) -> np.ndarray:
    """Running mean over a tenth of the records, fewer at the ends."""
    half = len(value) // 20
    total = np.concatenate([[0.0], value.cumsum()])  # (T + 1,)
    place = np.arange(len(value))
    first = np.maximum(place - half, 0)
    last = np.minimum(place + half + 1, len(value))
    return (total[last] - total[first]) / (last - first)  # (T,)


def _draw_legend(axes) -> None:
    axes.legend(fontsize=7.5, frameon=False, loc="best")


def _draw_nothing(axes) -> None:
    axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
    axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", fontsize=8, color=QUIET)
