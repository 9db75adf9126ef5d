"""A picture of queries and their neighbours, row by row: images placed pixel by pixel, captions by matplotlib."""
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluation.report.figures import INK, QUIET

HIT = "#2b8a4b"
MISS = "#c0392b"
CELL, GAP, TEXT = 112, 16, 36  # pixels: side of an image, space between two, the caption below one
TOP, HEADING, EDGE = 84, 44, 24  # pixels: title, heading of a block, margin
DPI = 100
# lines of the marks, as offsets in pixels (x, y) from the centre of their disc
CHECK = [((-4, -1, 4), (0, 3, -3))]
CROSS = [((-3, 3), (-3, 3)), ((-3, 3), (3, -3))]


def pixel_axes(width: int, height: int):
    """A figure of this size and axes that count its pixels from the upper left corner."""
    figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


class Canvas:
    """Rows of images, each a query and its k results, with captions and headings."""

    def __init__(self, k: int, rows: list[int]):
        """k: results in a row; rows: the number of rows below each heading."""
        width = 2 * EDGE + (k + 1) * (CELL + GAP) + GAP
        height = TOP + EDGE + len(rows) * HEADING + sum(rows) * (CELL + TEXT + GAP)
        self.figure, self.axes = pixel_axes(width, height)
        self.pixels = np.full((height, width, 3), 255, dtype=np.uint8)  # (H, W, 3)
        self.x = EDGE
        self.y = TOP

    def title(self, headline: str, note: str) -> None:
        """The first two lines."""
        self._write(EDGE, 34, headline, 14, INK, weight="bold")
        self._write(EDGE, 62, note, 9, QUIET)

    def heading(self, text: str) -> None:
        """The heading of the rows that follow."""
        self._write(EDGE, self.y + 22, text, 11, INK, weight="bold")
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
        height, width, _ = self.pixels.shape
        extent = (0, width, height, 0)
        self.axes.imshow(self.pixels, interpolation="none", aspect="auto", extent=extent, zorder=0)
        self.figure.savefig(path, dpi=DPI)

    def _place(self, image: np.ndarray, colour: str, line, width: float) -> None:
        """An image at the present place, in a frame."""
        self.pixels[self.y:self.y + CELL, self.x:self.x + CELL] = image
        corner = (self.x - 2, self.y - 2)
        frame = Rectangle(corner, CELL + 4, CELL + 4, fill=False, edgecolor=colour, linestyle=line, linewidth=width)
        self.axes.add_patch(frame)

    def _mark(self, colour: str, strokes: list) -> None:
        """A disc over the upper right corner, with lines on it, so that no font is needed."""
        x = self.x + CELL
        y = self.y
        self.axes.plot([x], [y], "o", color=colour, markersize=12, markeredgecolor="white", zorder=3)
        for dx, dy in strokes:
            self.axes.plot(np.add(dx, x), np.add(dy, y), color="white", linewidth=1.6, zorder=4)

    def _caption(self, name: str, note: str, colour: str) -> None:
        text = self._write(self.x, self.y + CELL + 13, name, 7.5, INK)
        corner = (self.x, self.y + CELL)
        text.set_clip_path(Rectangle(corner, CELL + GAP - 4, TEXT, transform=self.axes.transData))
        self._write(self.x, self.y + CELL + 27, note, 7.5, colour)

    def _write(self, x: float, y: float, text: str, size: float, colour: str, weight: str = "normal"):
        return self.axes.text(x, y, text, fontsize=size, color=colour, weight=weight, va="center", ha="left",
                              parse_math=False, clip_on=True)
