"""Thumbnails of many images on a few sheets, so that one page holds thousands of them in little room."""
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from datasets.decode import ImageError
from evaluation.report.gallery import in_square, load_image

SIDES = (96, 80, 64, 48)      # pixels of a thumbnail: blocks of 8, so that none of a JPEG holds parts of two
PIXELS = 5000 * 80**2         # of all thumbnails: more images are smaller ones
COLUMNS = ROWS = 10           # of a sheet
QUALITY = 80


class Atlas(NamedTuple):
    """Sheets of COLUMNS x ROWS thumbnails as JPEG files, row by row in the order of the images; the side of one; and
    which images could not be read: they have a crossed-out field."""

    sheets: list[bytes]
    side: int
    unreadable: list[int]


def draw_atlas(paths: Sequence[Path]) -> Atlas:
    """The thumbnails of image files, each whole, in the middle of a light square."""
    sheets, unreadable, many, side = [], [], COLUMNS * ROWS, _side(paths)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in tqdm(range(0, len(paths), many), desc="thumbnails", unit="sheet", leave=False):
            cells = list(pool.map(lambda path: _thumbnail(path, side), paths[start:start + many]))
            unreadable += [start + i for i, cell in enumerate(cells) if cell is None]
            sheets.append(_sheet([_crossed_out(side) if cell is None else cell for cell in cells], side))
    return Atlas(sheets, side, unreadable)


def _side(paths: Sequence[Path]) -> int:
    """The largest side of which all fit in PIXELS; a smaller one where it already holds the images of the first sheet
    as large as they are."""
    fitting = [side for side in SIDES if len(paths) * side**2 <= PIXELS] or SIDES[-1:]
    longest = max(map(_longest, paths[:COLUMNS * ROWS]), default=0)
    return min((side for side in fitting if side >= longest), default=fitting[0])


def _longest(path: Path) -> int:
    """The longer edge of an image, at most the largest side; 0 where it cannot be read."""
    try:
        return max(load_image(path, SIDES[0]).size)
    except ImageError:
        return 0


def _thumbnail(path: Path, side: int) -> np.ndarray | None:
    """One thumbnail (side, side, 3), None where the file is no readable image."""
    try:
        return in_square(load_image(path, side), side)
    except ImageError:
        return None


def _crossed_out(side: int) -> np.ndarray:
    """What stands in the place of an image that cannot be read, (side, side, 3)."""
    cell = Image.new("RGB", (side, side), "#d8d8d4")
    draw = ImageDraw.Draw(cell)
    for start, end in ((0, side - 1), (side - 1, 0)):
        draw.line([(start, 0), (end, side - 1)], fill="#8a8a84", width=2)
    return np.asarray(cell)


def _sheet(cells: list[np.ndarray], side: int) -> bytes:
    """Up to COLUMNS x ROWS cells as one JPEG, as high as they need."""
    height = -(-len(cells) // COLUMNS)
    sheet = np.full((height * side, COLUMNS * side, 3), 255, dtype=np.uint8)       # (H, W, 3)
    for i, cell in enumerate(cells):
        y, x = i // COLUMNS * side, i % COLUMNS * side
        sheet[y:y + side, x:x + side] = cell
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=QUALITY, optimize=True, subsampling=0)
    return buffer.getvalue()
