"""A picture of queries and their neighbours: exact pixels, with captions by matplotlib."""
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.report.letters import drawable, families

# The background is transparent: these can be read on white and on the page in dark mode.
INK = "#767676"
QUIET = "#808080"
HIT = "#2b8a4b"
MISS = "#d04a3a"
DPI = 100
# pixels: side of an image, space between two, the caption below one
CELL = 112
GAP = 16
TEXT = 36
# pixels: title, heading of a block, margin
TOP = 84
HEADING = 44
EDGE = 24
# lines of the marks, as offsets in pixels (x, y) from the centre of their disc
CHECK = [((-4, -1, 4), (0, 3, -3))]
CROSS = [((-3, 3), (-3, 3)), ((-3, 3), (3, -3))]


def pixel_axes(width: int, height: int, headline: str, note: str):
    """A figure with two lines of title, and axes that count pixels from the upper left corner."""
    figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor="none")
    limits = {"xlim": (0, width), "ylim": (height, 0), "autoscale_on": False}
    axes = figure.add_axes((0, 0, 1, 1), **limits)
    axes.set_axis_off()
    write(axes, EDGE, 34, headline, 14, weight="bold")
    write(axes, EDGE, 62, note, 9, QUIET)
    return figure, axes


def write(axes, x: float, y: float, text: str, size: float, colour: str = INK, **style):
    """A text as it is, as far as the fonts go, its middle at the height y."""
    fixed = {"va": "center", "parse_math": False, "clip_on": True, "family": families()}
    return axes.text(x, y, drawable(text), fontsize=size, color=colour, **fixed | style)


class Canvas:
    """Rows of images, each a query and its k results, with captions and headings."""

    def __init__(self, k: int, rows: list[int], headline: str):
        """k: results in a row; rows: the number of rows below each heading."""
        width = 2 * EDGE + (k + 1) * (CELL + GAP) + GAP
        height = TOP + EDGE + len(rows) * HEADING + sum(rows) * (CELL + TEXT + GAP)
        note = "nearest first, cosine similarity below each image"
        self.figure, self.axes = pixel_axes(width, height, headline, note)
        self.pixels = np.zeros((height, width, 4), dtype=np.uint8)  # (H, W, 4)
        self.x = EDGE
        self.y = TOP

    def heading(self, text: str) -> None:
        """The heading of the rows that follow."""
        write(self.axes, EDGE, self.y + 22, text, 11, weight="bold")
        self.y += HEADING

    def query(self, image: np.ndarray, name: str) -> None:
        """The query of a row, (CELL, CELL, 3)."""
        self._place(image, INK, "solid", 1.0)
        self._caption(name, "query", INK)
        self.x += CELL + 2 * GAP

    def result(self, image: np.ndarray, name: str, score: float, hit: bool | None) -> None:
        """The next result of a row, (CELL, CELL, 3); hit None: unknown."""
        colour = {True: HIT, False: MISS, None: QUIET}[hit]
        line = (0, (4, 2)) if hit is False else "solid"
        self._place(image, colour, line, 0.8 if hit is None else 2.2)
        if hit is not None:
            self._mark(colour, CHECK if hit else CROSS)
        self._caption(name, f"{score:.2f}", colour)
        self.x += CELL + GAP

    def next_row(self, below_results: bool = False) -> None:
        """Go to the start of the row below, or to the place of its first result."""
        self.x = EDGE + below_results * (CELL + 2 * GAP)
        self.y += CELL + TEXT + GAP

    def save(self, path) -> None:
        """Write the picture."""
        show_pixels(self.axes, self.pixels, zorder=0)
        self.figure.savefig(path, dpi=DPI)

    def _place(self, image: np.ndarray, colour: str, line, width: float) -> None:
        """An image at the present place, in a frame."""
        cell = self.pixels[self.y:self.y + CELL, self.x:self.x + CELL]
        cell[..., :3] = image
        cell[..., 3] = 255
        style = {"edgecolor": colour, "linestyle": line, "linewidth": width}
        frame = Rectangle((self.x - 2, self.y - 2), CELL + 4, CELL + 4, fill=False, **style)
        self.axes.add_patch(frame)

    def _mark(self, colour: str, strokes: list) -> None:
        """A disc over the upper right corner, with lines on it, so that no font is needed."""
        corner = np.array([self.x + CELL, self.y])
        disc = {"marker": "o", "markersize": 12, "markeredgecolor": "white"}
        self.axes.plot(*corner, color=colour, zorder=3, **disc)
        for stroke in strokes:
            self.axes.plot(*(stroke + corner[:, None]), color="white", linewidth=1.6, zorder=4)

    def _caption(self, name: str, note: str, colour: str) -> None:
        y = self.y + CELL
        text = write(self.axes, self.x, y + 13, name, 7.5)
        room = Rectangle((self.x, y), CELL + GAP - 4, TEXT, transform=self.axes.transData)
        text.set_clip_path(room)
        write(self.axes, self.x, y + 27, note, 7.5, colour)


def show_pixels(axes, pixels: np.ndarray, zorder: int) -> None:
    """Pixels (H, W, 4) over the whole of `pixel_axes`, as they are."""
    height, width, _ = pixels.shape
    style = {"interpolation": "none", "aspect": "auto", "zorder": zorder}
    axes.imshow(pixels, extent=(0, width, height, 0), **style)
