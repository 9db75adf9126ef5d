"""What the figures of a run share: colours, look, and the columns of its records.

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


def column(rows: list[dict], name: str) -> np.ndarray:
    """The numbers of a name, (rows,), NaN where a row has none."""
    return np.array([row.get(name) for row in rows], dtype=float)


def curve(rows: list[dict], name: str, over: str) -> np.ndarray:
    """The finite numbers of a name and where they stand: x and y, (2, n)."""
    points = np.stack([column(rows, over), column(rows, name)])
    return points[:, np.isfinite(points).all(0)]
