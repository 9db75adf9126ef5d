"""A picture of what retrieval does: queries with their nearest test images, hits and misses marked."""
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evaluation.metrics.retrieval import relevant

HIT, MISS, INK, QUIET = "#2b8a4b", "#c0392b", "#222222", "#6b6b6b"
CELL, GAP, TEXT = 112, 16, 36       # pixels: side of an image, space between two, the caption below one
TOP, HEADING, EDGE = 84, 44, 24     # pixels: title, heading of a block, margin
DPI = 100
SHOWN = 8                           # neighbours of a query in a run's gallery

Images = Callable[[int], object] | Sequence   # index -> PIL image


class Queries(NamedTuple):
    """Which rows the gallery shows; (number,) indices each."""

    random: Tensor
    worst: Tensor


def choose_queries(neighbours: Tensor, labels: Tensor, number: int, seed: int = 0,
                   gallery_labels: Tensor | None = None) -> Queries:
    """Some queries at random, and those whose first hit among their neighbours comes latest, fewest hits first.

    neighbours (N, k): nearest other rows of every row, labels (N,); with gallery_labels (G,): nearest rows of the
    gallery. Rows whose class has none to find are never chosen. Equally bad queries are picked at random; the draw
    depends on `seed` alone.
    """
    there = labels if gallery_labels is None else gallery_labels
    query = (relevant(labels, gallery_labels) > 0).nonzero()[:, 0].cpu()           # (Q,)
    order = query[torch.randperm(len(query), generator=torch.Generator().manual_seed(seed))]
    last = order.flip(0)  # so that, where all are equally good, the two kinds do not show the same rows
    hit = (there[neighbours] == labels[:, None]).cpu()[last].long()               # (Q, k)
    k = hit.shape[1]
    first = torch.where(hit.any(1), hit.argmax(1), k)                              # (Q,) rank of the first hit, from 0
    badness = first * (k + 1) + k - hit.sum(1)                                     # (Q,)
    worst = badness.sort(descending=True, stable=True).indices
    return Queries(order[:number], last[worst][:number])


def draw_run_gallery(similarities: Tensor, neighbours: Tensor, images, image_size: int, path, *, gallery=None,
                     seed: int = 0, number: int = 6) -> None:
    """The gallery of a data set's split: similarities, neighbours (N, k) of the nearest other rows, in the order of
    `images`, an ImageList, or where there is a `gallery`, another ImageList, of its nearest rows. Images are shown
    whole, in at most `image_size` pixels a side, so that one sees the detail that the network sees."""
    label = torch.as_tensor(images.labels)                                         # (N,)
    there = None if gallery is None else torch.as_tensor(gallery.labels)           # (G,)
    queries = choose_queries(neighbours.cpu(), label, number, seed, there)
    draw_gallery(lambda i: load_image(images.paths[i], image_size), label, images.class_names, neighbours, similarities,
                 queries, path, gallery=gallery and (lambda i: load_image(gallery.paths[i], image_size)),
                 gallery_labels=there)


def draw_gallery(images: Images, labels: Tensor, class_names: Sequence[str], neighbours: Tensor, similarities: Tensor,
                 queries: Queries, path, *, gallery: Images | None = None,
                 gallery_labels: Tensor | None = None) -> None:
    """Write the picture: one row a query, first the query itself, then its k nearest test images.

    images: index -> PIL image, or a list of them; labels (N,) index class_names; neighbours, similarities (N, k): the
    nearest other rows of every row, or of the gallery with gallery_labels (G,). A hit has a solid green frame and a
    check, a miss a dashed red one and a cross.
    """
    labels, neighbours, similarities = (torch.as_tensor(t).cpu() for t in (labels, neighbours, similarities))
    found, there = (images, labels) if gallery is None else (gallery, gallery_labels)
    blocks = [("Random queries", queries.random.tolist()),
              ("Worst queries: the first hit comes latest", queries.worst.tolist())]
    page = Page(neighbours.shape[1], [len(rows) for _, rows in blocks])
    page.title(_headline(neighbours, labels, gallery_labels), "nearest first, cosine similarity below each image")
    for heading, rows in blocks:
        page.heading(heading)
        for i in rows:
            page.query(_picture(images, i), short_name(class_names[labels[i]]))
            for j, score in zip(neighbours[i].tolist(), similarities[i].tolist()):
                hit = bool(there[j] == labels[i])
                page.result(_picture(found, j), short_name(class_names[there[j]]), score, hit)
            page.next_row()
    page.save(path)


class Page:
    """A canvas on which images are placed pixel by pixel, row after row, and described by matplotlib."""

    def __init__(self, k: int, rows: list[int]):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        width = 2 * EDGE + (k + 1) * (CELL + GAP) + GAP
        height = TOP + EDGE + len(rows) * HEADING + sum(rows) * (CELL + TEXT + GAP)
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.canvas = np.full((height, width, 3), 255, dtype=np.uint8)             # (H, W, 3)
        self.x, self.y = EDGE, TOP

    def title(self, headline: str, note: str) -> None:
        self._write(EDGE, 34, headline, 14, INK, weight="bold")
        self._write(EDGE, 62, note, 9, QUIET)

    def heading(self, text: str) -> None:
        self._write(EDGE, self.y + 22, text, 11, INK, weight="bold")
        self.y += HEADING

    def query(self, picture: np.ndarray, name: str) -> None:
        self._place(picture, INK, "solid", 1.0)
        self._caption(name, "query", INK)
        self.x += CELL + 2 * GAP

    def result(self, picture: np.ndarray, name: str, score: float, hit: bool | None) -> None:
        """hit None: nobody knows whether it is one."""
        colour = {True: HIT, False: MISS, None: QUIET}[hit]
        self._place(picture, colour, (0, (4, 2)) if hit is False else "solid", 0.8 if hit is None else 2.2)
        if hit is not None:
            self._mark(hit)
        self._caption(name, f"{score:.2f}", colour)
        self.x += CELL + GAP

    def next_row(self, below_results: bool = False) -> None:
        """The start of the row below, or the place of its first result."""
        self.x = EDGE + below_results * (CELL + 2 * GAP)
        self.y += CELL + TEXT + GAP

    def save(self, path) -> None:
        self.axes.imshow(self.canvas, interpolation="none", aspect="auto",
                         extent=(0, self.canvas.shape[1], self.canvas.shape[0], 0), zorder=0)
        self.figure.savefig(path, dpi=DPI)

    def _place(self, picture: np.ndarray, colour: str, style, width: float) -> None:
        from matplotlib.patches import Rectangle
        self.canvas[self.y:self.y + CELL, self.x:self.x + CELL] = picture          # (CELL, CELL, 3)
        self.axes.add_patch(Rectangle((self.x - 2, self.y - 2), CELL + 4, CELL + 4, fill=False, edgecolor=colour,
                                      linestyle=style, linewidth=width))

    def _mark(self, hit: bool) -> None:
        """A check or a cross on a disc over the upper right corner, drawn as lines so that no font is needed."""
        x, y = self.x + CELL, self.y
        self.axes.plot([x], [y], "o", color=HIT if hit else MISS, markersize=12, markeredgecolor="white", zorder=3)
        strokes = [((-4, -1, 4), (0, 3, -3))] if hit else [((-3, 3), (-3, 3)), ((-3, 3), (3, -3))]
        for dx, dy in strokes:
            self.axes.plot([x + d for d in dx], [y + d for d in dy], color="white", linewidth=1.6, zorder=4)

    def _caption(self, name: str, note: str, colour: str) -> None:
        from matplotlib.patches import Rectangle
        text = self._write(self.x, self.y + CELL + 13, name, 7.5, INK)
        text.set_clip_path(Rectangle((self.x, self.y + CELL), CELL + GAP - 4, TEXT, transform=self.axes.transData))
        self._write(self.x, self.y + CELL + 27, note, 7.5, colour)

    def _write(self, x: float, y: float, text: str, size: float, colour: str, weight: str = "normal"):
        return self.axes.text(x, y, text, fontsize=size, color=colour, weight=weight, va="center", ha="left",
                              parse_math=False, clip_on=True)


def _headline(neighbours: Tensor, labels: Tensor, gallery_labels: Tensor | None) -> str:
    """R@1 over all queries, and of how many."""
    query = relevant(labels, gallery_labels) > 0                                   # (N,)
    there, kind = (labels, "test") if gallery_labels is None else (gallery_labels, "gallery")
    if not query.any():
        return f"Nearest neighbours in {len(there):,} {kind} images (no query has anything to find)"
    share = (there[neighbours[:, 0]] == labels)[query].double().mean().item()
    return f"R@1 {100 * share:.1f} %   {int(query.sum()):,} queries in {len(there):,} {kind} images"


def _picture(images: Images, i: int) -> np.ndarray:
    """Image i in a square (CELL, CELL, 3)."""
    return in_square(images(i) if callable(images) else images[i], CELL)


def in_square(image, side: int) -> np.ndarray:
    """A PIL image, whole, in the middle of a light square (side, side, 3); small ones grow by bicubic interpolation."""
    from PIL import Image
    image = image.convert("RGB")
    scale = side / max(image.size)
    size = [max(1, round(edge * scale)) for edge in image.size]
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    square = Image.new("RGB", (side, side), "#f2f2f2")
    square.paste(image.resize(size, method), ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(square)                                                      # (side, side, 3)


def load_image(path, image_size: int):
    """The image file as PIL, no longer than image_size on its longer side."""
    from PIL import Image

    from datasets.decode import decode
    image = Image.fromarray(decode(path).permute(1, 2, 0).numpy())                 # (H, W, 3)
    image.thumbnail((image_size, image_size), Image.Resampling.LANCZOS)
    return image


def short_name(name: str, length: int = 17) -> str:
    """A class name for a caption: without a leading number, underscores as spaces, cut in the middle where long."""
    name = re.sub(r"^\d+[._ ]+(?=\D)", "", str(name)).replace("_", " ").strip()
    half = length // 2
    return name if len(name) <= length else f"{name[:half].rstrip()}…{name[-(length - half - 1):].lstrip()}"
