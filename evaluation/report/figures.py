"""What the figures of a run share: colours, look, and the columns of its records.

Matplotlib's objects only, without pyplot, so that nothing global changes.
"""
import re

import numpy as np
from matplotlib.figure import Figure

INK = "#222222"
QUIET = "#6b6b6b"
BLUE = "#2f5d9b"
ORANGE = "#c8691c"
GREEN = "#3a7d5d"
GREY = "#9a9a9a"
PURPLE = "#7a4f9c"
OCHRE = "#b8962e"
# settings of matplotlib while a figure is drawn
LOOK = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "xtick.color": QUIET,
    "xtick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.color": QUIET,
    "ytick.labelsize": 8,
    "ytick.major.size": 3,
}


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure with its title, in inches."""
    figure = Figure((width, height), dpi=130, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.05)
    figure.suptitle(title, x=0.012, ha="left", fontsize=13, weight="bold", color=INK)
    return figure


def label_axes(axes, title: str, x: str, y: str) -> None:
    """Title, labels, whole numbers along x, and lines across where something is drawn."""
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.has_data():
        axes.grid(axis="y")


def tick_texts(ticks: np.ndarray) -> list[str]:
    """The texts of ascending ticks (n,), with as many digits as distinguish all of them."""
    largest = np.abs(ticks).max(initial=0)
    kind = "e" if largest >= 1e6 or 0 < largest < 1e-3 else "f"
    tolerance = np.diff(ticks).min(initial=np.inf) / 100
    for digits in range(17):
        texts = [f"{tick:z,.{digits}{kind}}" for tick in ticks]
        numbers = np.array([text.replace(",", "") for text in texts], dtype=float)  # (n,)
        if (np.abs(numbers - ticks) <= tolerance).all():
            break
    return [re.sub(r"^0(\.0+)?e.*", "0", re.sub(r"e\+?(-?)0*", r"e\1", text)) for text in texts]


def column(rows: list[dict], name: str) -> np.ndarray:
    """The numbers of a name, (rows,), NaN where a row has none."""
    return np.array([row.get(name) for row in rows], dtype=float)


def curve(rows: list[dict], name: str, over: str) -> np.ndarray:
    """The finite numbers of a name and where they stand: x and y, (2, n)."""
    points = np.stack([column(rows, over), column(rows, name)])
    return points[:, np.isfinite(points).all(0)]


def draw_noisy(axes, step: np.ndarray, value: np.ndarray, colour: str, label: str | None) -> None:
    """The values faintly, their running mean on top."""
    if not len(step):
        draw_nothing(axes)
        return
    style = {"color": colour, "label": label, "marker": marker(step)}
    axes.plot(step, value, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(step, smooth(value), linewidth=1.8, **style)
    if len(step) == 1:
        axes.set_xlim(step[0] - 1, step[0] + 1)


def marker(step: np.ndarray) -> str | None:
    """A dot for a single point, which is no line."""
    return "o" if len(step) == 1 else None


def smooth(value: np.ndarray) -> np.ndarray:
    """Running mean over a tenth of the records, fewer at the ends."""
    window = np.ones(2 * (len(value) // 20) + 1)
    number = np.convolve(np.ones(len(value)), window, "same")  # (T,)
    return np.convolve(value, window, "same") / number


def draw_nothing(axes) -> None:
    """Axes that say that there is nothing to draw."""
    axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
    style = {"ha": "center", "va": "center", "fontsize": 8, "color": QUIET}
    axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, **style)
