"""A picture of what a search found: each query on the left, its hits beside it in order."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.decode import ImageError
from evaluation.report.canvas import CELL, Canvas
from evaluation.report.thumbnails import in_square, load_image, short_name
from evaluation.search.nearest import SearchResult

# hits in a row
ACROSS = 12
# queries that one picture shows
QUERIES = 40
# characters of a file name
LONGEST = 60
# pixels to which a large image is reduced first
SIDE = 4 * CELL


def draw_results(results: Sequence[SearchResult], headline: str, path: Path) -> list[str]:
    """Write the picture of the first QUERIES results.

    Returns a sentence for each image that cannot be read; its place stays empty.
    """
    results = results[:QUERIES]
    unreadable = []
    # a query without hits has a row too
    numbers = [max(1, len(result.hits)) for result in results]
    rows = [-(-number // ACROSS) for number in numbers]
    canvas = Canvas(min(ACROSS, max(numbers)), rows, headline)
    for result in results:
        _draw_result(canvas, result, unreadable)
    canvas.save(path)
    return unreadable


def _draw_result(canvas: Canvas, result: SearchResult, unreadable: list[str]) -> None:
    canvas.heading(result.path.name[:LONGEST])
    canvas.query(_square(result.path, unreadable), short_name(result.class_name or "class unknown"))
    for number, hit in enumerate(result.hits):
        if number and number % ACROSS == 0:
            canvas.next_row(below_results=True)
        image = _square(hit.path, unreadable)
        canvas.result(image, short_name(hit.class_name), hit.similarity, hit.right)
    canvas.next_row()


def _square(path: Path, unreadable: list[str]) -> np.ndarray:
    """The image in a square (CELL, CELL, 3)."""
    try:
        image = load_image(path, SIDE)
    except ImageError as error:
        unreadable.append(str(error))
        image = Image.new("RGB", (CELL, CELL), "#f2f2f2")
    return in_square(image, CELL)
