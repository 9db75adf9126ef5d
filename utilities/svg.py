"""Line charts as inline SVG: small, with axes, and with the last value of every line in words beside them."""
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utilities.html import Element, element

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 24   # margins around the curves
POINTS = 300                               # more are averaged in groups
COLOURS = 4                                # classes line-0 ... of the page's style


class Line(NamedTuple):
    """A curve, x and y of equal length, and where there is one its interval."""

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class Scale:
    """From numbers to pixels, `start` to `end`; logarithmic where it is asked for."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool = False):
        self.log, self.start, self.end = log, start, end
        low, high = self._inner(low), self._inner(high)
        pad = (abs(low) if abs(low) > 1e-300 else 1.0) * 0.05 if high - low < 1e-12 * max(abs(low), 1e-300) else 0.0
        self.low, self.high = low - pad, high + pad

    def _inner(self, value):
        return np.log10(value) if self.log else value

    def __call__(self, value):
        share = (self._inner(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        """Round numbers within the range, about `count` of them; powers of ten on a logarithmic scale."""
        if self.log and self.high - self.low >= 1:
            powers = range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)
            return [10.0**power for power in powers][::max(1, len(powers) // count)]
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        raw = (high - low) / count
        unit = 10.0**math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * (1 - 1e-9))
        first = math.ceil(low / step - 1e-9)
        return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, lines: Sequence[Line], x_label: str, *, log: bool = False) -> Element | None:
    """A figure with the curves that have a finite point; None where none has.

    log: a logarithmic scale, where all values are above zero.
    """
    shown = [kept for line in lines if len((kept := _reduced(_finite(line))).x)]
    if not shown:
        return None
    x, y = (np.concatenate([getattr(line, axis) for line in shown]) for axis in "xy")
    bounds = [part for line in shown if line.low is not None for part in (line.low, line.high)]
    y = np.concatenate([y, *bounds])
    across = Scale(x.min(), x.max(), LEFT, WIDTH - RIGHT)
    up = Scale(y.min(), y.max(), HEIGHT - BOTTOM, TOP, log=log and bool(y.min() > 0))
    curves = [part for number, line in enumerate(shown) for part in _curve(line, number % COLOURS, across, up)]
    words = ", ".join(f"{line.label} from {short(line.y[0])} to {short(line.y[-1])}" for line in shown)
    drawing = element("svg", *_axes(across, up, x_label), *curves, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
                      aria_label=f"{title} over the {x_label}s: {words}")
    return element("figure", element("figcaption", element("strong", title), _legend(shown)), drawing, class_="chart")


def short(value: float) -> str:
    """A number in few characters."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        digits, power = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def _finite(line: Line) -> Line:
    arrays = [np.asarray(part, dtype=float) for part in line[1:] if part is not None]
    kept = np.isfinite(np.stack(arrays)).all(0)
    return Line(line.label, *(part[kept] for part in arrays))


def _reduced(line: Line) -> Line:
    """At most POINTS points, the means of equally many neighbours each."""
    if len(line.x) <= POINTS:
        return line
    groups = np.arange(len(line.x)) * POINTS // len(line.x)
    count = np.bincount(groups)
    return Line(line.label, *(np.bincount(groups, part) / count for part in line[1:] if part is not None))


def _curve(line: Line, number: int, across: Scale, up: Scale) -> list[Element]:
    """The band of the interval, the line, and a dot where it is a single point."""
    x, y = across(line.x), up(line.y)
    parts = []
    if line.low is not None:
        outline = [*zip(x, up(line.high)), *reversed([*zip(x, up(line.low))])]
        parts.append(element("path", d=_path(outline) + "Z", class_=f"band line-{number}"))
    if len(x) == 1:
        return [*parts, element("circle", cx=f"{x[0]:.1f}", cy=f"{y[0]:.1f}", r=3, class_=f"dot line-{number}")]
    return [*parts, element("path", d=_path(zip(x, y)), class_=f"line line-{number}")]


def _path(points) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _axes(across: Scale, up: Scale, x_label: str) -> list[Element]:
    """Grid lines with their numbers, and what runs along x."""
    parts, floor = [], HEIGHT - BOTTOM
    for value in up.ticks():
        at = f"{up(value):.1f}"
        parts += [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"),
                  element("text", short(value), x=LEFT - 6, y=at, dy="0.35em", text_anchor="end")]
    for value in across.ticks():
        at = f"{across(value):.1f}"
        parts.append(element("text", short(value), x=at, y=floor + 14, text_anchor="middle"))
    parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
    parts.append(element("text", x_label, x=LEFT - 12, y=floor + 14, text_anchor="end"))
    return parts


def _legend(lines: Sequence[Line]) -> Element:
    """Key, name (where there are several) and last value of each line."""
    entries = []
    for number, line in enumerate(lines):
        key = element("span", class_=f"key line-{number % COLOURS}", aria_hidden="true")
        name = f"{line.label} " if len(lines) > 1 else "last "
        entries.append(element("span", key if len(lines) > 1 else None, name, element("b", short(line.y[-1]))))
    return element("span", *entries, class_="legend")
