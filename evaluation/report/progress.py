"""progress.png: the losses and metrics of a run over its epochs."""
import math
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context

from evaluation.report.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LOOK,
    OCHRE,
    ORANGE,
    PURPLE,
    QUIET,
    curve,
    label_axes,
    new_figure,
)
from utilities.metric_names import is_share

LOSSES = {
    "loss": ("total", INK),
    "metric": ("metric", BLUE),
    "metric_memory": ("metric, decoded context", ORANGE),
    "metric_xbm": ("metric, past batches", PURPLE),
    "metric_proxies": ("metric, proxies of classes", OCHRE),
    "metric_context": ("metric, context alone", GREEN),
}
TERMS = {"memory_nll": "Memory NLL", "policy": "Policy loss"}


class Curve(NamedTuple):
    """A line of a panel: epoch (n,) and value (n,)."""

    label: str
    colour: str
    epoch: np.ndarray
    value: np.ndarray


class Panel(NamedTuple):
    """Curves on common axes, and how their last values are written."""

    title: str
    curves: list[Curve]
    unit: str = ""
    form: str = "#.3g"


@rc_context(LOOK)
def plot_progress(history: list[dict], metrics: list[str], path) -> None:
    """Draw the loss, its terms and each test metric over the epochs, with the last values.

    history: one row an epoch with "epoch" and any of LOSSES, TERMS, the metrics' names and, with
    the prefix val_, their values on validation classes. What a row lacks is skipped.
    """
    panels = [_loss_panel(history)]
    panels += [Panel(title, _curves(history, {key: (title, BLUE)})) for key, title in TERMS.items()]
    panels += [_metric_panel(history, name) for name in metrics]
    panels = [panel for panel in panels if panel.curves]
    columns = _columns(len(panels))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(max(5.0, 3.3 * columns), 2.6 * rows + 0.5, "Training progress")
    for place, panel in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, place), panel)
    if not panels:
        figure.text(0.5, 0.5, "nothing recorded yet", ha="center", color=QUIET)
    figure.savefig(path)


def _columns(panels: int) -> int:
    """How many panels stand in a row, so that few places stay empty."""
    if panels <= 4:
        return max(1, panels)
    return min((4, 5, 3), key=lambda columns: -panels % columns)


def _curves(history: list[dict], styles: dict, factor: float = 1) -> list[Curve]:
    """The curves of the keys that have values. styles: key -> label and colour."""
    curves = []
    for key, style in styles.items():
        epoch, value = curve(history, key, "epoch")
        if len(epoch):
            curves.append(Curve(*style, epoch, factor * value))
    return curves


def _loss_panel(history: list[dict]) -> Panel:
    """Total and metric terms share a scale; a metric term equal to the total is not drawn again."""
    styles = dict(LOSSES)
    total = curve(history, "loss", "epoch")
    if np.array_equal(total, curve(history, "metric", "epoch")):
        del styles["metric"]
    return Panel("Loss", _curves(history, styles))


def _metric_panel(history: list[dict], name: str) -> Panel:
    styles = {name: (name, GREEN), f"val_{name}": (f"{name} (validation)", GREY)}
    if not is_share(name):
        return Panel(name, _curves(history, styles), form=".3f")
    return Panel(name, _curves(history, styles, factor=100), unit="percent", form=".1f")


def _draw_panel(axes, panel: Panel) -> None:
    """Curves over epochs; a single one is named by the title, several by a legend."""
    for line in panel.curves:
        marker = "o" if len(line.epoch) < 25 else None
        style = {"color": line.colour, "linewidth": 1.6, "marker": marker, "markersize": 3}
        axes.plot(line.epoch, line.value, label=line.label, **style)
    label_axes(axes, panel.title, "epoch", panel.unit)
    _write_last_values(axes, panel)
    if len(panel.curves) > 1:
        axes.legend(fontsize=7)


def _write_last_values(axes, panel: Panel) -> None:
    """The last value of each curve right of its end, moved apart where two would overlap."""
    lines = sorted(panel.curves, key=lambda line: (line.value[-1], line.epoch[-1], line.colour))
    heights = _apart([line.value[-1] for line in lines], *axes.get_ylim())
    place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    for line, height in zip(lines, heights):
        text = format(line.value[-1], panel.form)
        style = {"color": line.colour, "fontsize": 8, "weight": "bold"}
        axes.annotate(text, (line.epoch[-1], height), **place, **style)
    start = min(line.epoch[0] for line in lines)
    end = max(line.epoch[-1] for line in lines)
    width = max(end - start, 1)
    axes.set_xlim(start - 0.04 * width, end + 0.2 * width)
    # no tick below the written values
    axes.set_xticks([tick for tick in axes.get_xticks() if start <= tick <= end])


def _apart(values: list[float], low: float, high: float) -> list[float]:
    """Ascending heights near ascending values, a line of text apart, none above `high`."""
    gap = 0.09 * (high - low)
    heights = values[:1]
    for value in values[1:]:
        heights.append(max(value, heights[-1] + gap))
    heights[-1] = min(heights[-1], high)
    for i in reversed(range(len(heights) - 1)):
        heights[i] = min(heights[i], heights[i + 1] - gap)
    return heights
