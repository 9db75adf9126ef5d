"""A picture of what a search found: each query on the left, its hits beside it in order."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.decode import ImageError
from evaluation.report.canvas import CELL, Canvas
from evaluation.report.thumbnails import in_square, load_image, short_name
from evaluation.search.embedded_set import Found

ACROSS = 12          # hits in a row
QUERIES = 40         # that one picture shows
LONGEST = 60         # characters of a file's name
SIDE = 4 * CELL      # pixels to which a large image is brought first


def draw_found(found: Sequence[Found], headline: str, place: Path) -> list[str]:
    """Write the picture of the first QUERIES searches; returns a sentence for each image that cannot be shown."""
    found, unreadable = found[:QUERIES], []
    rows = [max(1, -(-len(one.hits) // ACROSS)) for one in found]
    note = "nearest first, cosine similarity below each image"
    page = Canvas(min(ACROSS, max(len(one.hits) for one in found)), rows, headline, note)
    for one in found:
        page.heading(one.path.name[:LONGEST])
        page.query(_square(one.path, unreadable), short_name(one.name or "class unknown"))
        for number, hit in enumerate(one.hits):
            if number and number % ACROSS == 0:
                page.next_row(below_results=True)
            page.result(_square(hit.path, unreadable), short_name(hit.name), hit.similarity, hit.right)
        page.next_row()
    page.save(place)
    return unreadable


def _square(path: Path, unreadable: list[str]) -> np.ndarray:
    """The image in a square (CELL, CELL, 3); an empty one, and a note, where it cannot be read."""
    try:
        image = load_image(path, SIDE)
    except ImageError as error:
        unreadable.append(str(error))
        image = Image.new("RGB", (CELL, CELL), "#f2f2f2")
    return in_square(image, CELL)
