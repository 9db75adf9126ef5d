"""A small line chart as inline SVG: drawn by matplotlib, coloured by the style of its page."""
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import nonsingular

from evaluation.report.figures import tick_texts

WIDTH = 320  # units of the drawing
HEIGHT = 176
LEFT = 44  # margins around the curves; the left one grows with the texts of ticks
RIGHT = 10
TOP = 8
BOTTOM = 24
DIGIT = 7  # width of a letter of a tick
POINTS = 300  # of a curve; of more, neighbours are averaged
STEPS = (1, 2, 2.5, 5, 10)  # between ticks, times a power of ten
DASHES = ("solid", (0, (2.8, 1.7)))
QUIET = "#5c5c58"
RULE = "#deded9"
LINES = ("#2f5d9b", "#b8580f", "#2f7554", "#7a5195")
# colours of the drawing, and the variables of the page's style that take their place
VARIABLES = {QUIET: "var(--quiet)", RULE: "var(--rule)"}
VARIABLES |= {colour: f"var(--c{number})" for number, colour in enumerate(LINES)}


class Line(NamedTuple):
    """A curve: points (N, 4) are x, y and the interval low, high of y, NaN where there is none."""

    label: str
    points: np.ndarray


class Chart(NamedTuple):
    """What the page shows: title, content of an svg element, its words, each line's last value."""

    title: str
    drawing: Markup
    words: str
    legend: list[tuple[str, str]]


def make_chart(
    title: str, lines: Sequence[Line], x_label: str, *, log: bool = False
) -> Chart | None:
    """The chart of the lines that have a finite point; None where none has.

    log: a logarithmic scale, used where all values are above zero and span a power of ten.
    """
    lines = [Line(line.label, thinned(finite(line.points))) for line in lines]
    lines = [line for line in lines if len(line.points)]
    if not lines:
        return None
    legend = []
    ranges = []
    for label, points in lines:
        first = short(points[0, 1])
        last = short(points[-1, 1])
        legend.append((label, last))
        ranges.append(f"{label} from {first} to {last}")
    values = np.concatenate([line.points[:, 1] for line in lines])
    log = log and 0 < 10 * values.min() <= values.max()
    drawing = inline(draw(lines, x_label, log))
    return Chart(title, drawing, f"{title} over the {x_label}s: {', '.join(ranges)}", legend)


def finite(points: np.ndarray) -> np.ndarray:
    """The points whose x and y are finite."""
    return points[np.isfinite(points[:, :2]).all(1)]


def thinned(points: np.ndarray) -> np.ndarray:
    """At most POINTS points, each the mean of equally many neighbours."""
    if len(points) <= POINTS:
        return points
    return np.stack([part.mean(0) for part in np.array_split(points, POINTS)])


def short(value: float) -> str:
    """A number in few characters."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        digits, power = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def draw(lines: Sequence[Line], x_label: str, log: bool) -> str:
    """The SVG file of the chart."""
    # 72 dots an inch: a dot is one unit of the drawing
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
    figure.patch.set_visible(False)
    axes = figure.add_axes((0, 0, 1, 1))
    for number, line in enumerate(lines):
        _draw_line(axes, line, number)
    _draw_axes(axes)
    left = max(LEFT, 12 + DIGIT * _draw_ticks(axes, log))
    width = WIDTH - left - RIGHT
    height = HEIGHT - TOP - BOTTOM
    axes.set_position((left / WIDTH, BOTTOM / HEIGHT, width / WIDTH, height / HEIGHT))
    figure.text(left - 12, BOTTOM - 14, x_label, transform=None, ha="right", color=QUIET)
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    return file.getvalue()


def _draw_line(axes, line: Line, number: int) -> None:
    """The curve, and the band of its interval where every point has one."""
    x, y, low, high = line.points.T
    # nothing is clipped: a clip path is found by its id, and ids of several charts would clash
    style = {"color": LINES[number % len(LINES)], "clip_on": False}
    if np.isfinite([low, high]).all():
        outline = np.concatenate([low, high[::-1]])
        axes.fill(np.concatenate([x, x[::-1]]), outline, alpha=0.16, linewidth=0, **style)
    if len(x) == 1:
        # a line without length and with round ends is a dot
        axes.plot(x.repeat(2), y.repeat(2), linewidth=6, solid_capstyle="round", **style)
    else:
        axes.plot(x, y, linewidth=1.8, linestyle=DASHES[number % 2], **style)


def _draw_axes(axes) -> None:
    """Lines across at the ticks of y, and the axis of x."""
    axes.tick_params(left=False, bottom=False, labelcolor=QUIET, labelsize=10.5)
    axes.grid(axis="y", color=RULE, linewidth=1, clip_on=False)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)


def _draw_ticks(axes, log: bool) -> int:
    """Few round ticks; returns the letters of the longest one of y.

    Values that differ by less than a ten-thousandth are equal on the scale of their axis.
    """
    axes.margins(0)
    low, high = nonsingular(*axes.get_ylim(), expander=0.05, tiny=1e-4)
    axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    if log:
        axes.set_yscale("log")
        subs = (1, 2, 5) if high < 500 * low else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        ticks = _visible_ticks(axis)
        is_log = log and axis is axes.yaxis
        texts = [short(tick) for tick in ticks] if is_log else tick_texts(ticks)
        axis.set_ticks(ticks, texts)
    return max(map(len, texts), default=0)


def _visible_ticks(axis) -> np.ndarray:
    """The ticks within the limits of an axis, ascending."""
    low, high = axis.get_view_interval()
    ticks = axis.get_majorticklocs()
    return ticks[(low <= ticks) & (ticks <= high)]


def inline(svg: str) -> Markup:
    """The content of matplotlib's SVG for a page whose policy forbids style attributes.

    Colours are the page's. Ids and groups are removed, as several charts share a page. Coordinates
    keep one decimal place.
    """
    body = svg[svg.index('<g id="figure_1">'):svg.rindex("</svg>")]
    body = re.sub(r'</?g[^>]*>| (id|transform)="[^"]*"', "", body)
    body = re.sub(r' style="([^"]*)"', _attributes, body)
    body = re.sub(r' (?:d|x|y)="[^"]*"', _rounded, body)
    body = re.sub(r">\s+<", "><", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    return Markup(body.strip())


def _attributes(style: re.Match) -> str:
    """A style attribute as attributes of their own, without the font."""
    pairs = [entry.split(": ") for entry in style[1].split("; ")]
    return "".join(f' {name}="{value}"' for name, value in pairs if not name.startswith("font"))


def _rounded(attribute: re.Match) -> str:
    text = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}", attribute[0])
    return text.replace(" \n", " ").replace("\n", "")
