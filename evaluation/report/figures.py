"""What the figures of a run share: colours, labels, and the columns of its records.

Matplotlib's objects only, without pyplot, so that nothing global changes.
"""
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


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure with its title, in inches."""
    figure = Figure((width, height), dpi=130, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.05)
    figure.suptitle(title, x=0.012, ha="left", fontsize=13, weight="bold", color=INK)
    return figure


def column(rows: list[dict], key: str, over: str = "epoch") -> tuple[np.ndarray, np.ndarray]:
    """The finite values of a key and where they stand, (n,) each; other rows are skipped."""
    rows = [row for row in rows if over in row and isinstance(row.get(key), int | float)]
    table = np.array([(row[over], row[key]) for row in rows], dtype=float).reshape(-1, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]


def label_axes(axes, title: str, x: str, y: str, grid: bool = True) -> None:
    """Title on the left, axis labels, and no more lines than are read."""
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.set_xlabel(x, fontsize=8, color=QUIET)
    axes.set_ylabel(y, fontsize=8, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if grid and axes.has_data():
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
