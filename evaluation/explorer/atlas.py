"""Thumbnails on a few sheets, so that one page contains thousands of them in little space."""
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from datasets.decode import ImageError
from evaluation.report.thumbnails import in_square, load_image
from utilities.bars import new_bar

# pixels of a thumbnail: whole blocks of 8, so that no JPEG block has parts of two
SIDES = (96, 80, 64, 48)
PIXELS = 5000 * 80**2  # of all thumbnails: of more images they are smaller
COLUMNS = ROWS = 10  # of a sheet
QUALITY = 80


class Atlas(NamedTuple):
    """Sheets of COLUMNS x ROWS thumbnails as JPEG files, row by row in the order of the images.

    side: pixels of a thumbnail; unreadable: images that could not be read, which have a crossed-out
    field.
    """

    sheets: list[bytes]
    side: int
    unreadable: list[int]


def draw_atlas(paths: Sequence[Path]) -> Atlas:
    """The thumbnails of image files, each whole, in the middle of a light square."""
    atlas = Atlas([], _side(paths), [])
    size = COLUMNS * ROWS
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in new_bar(range(0, len(paths), size), desc="thumbnails", unit="sheet"):
            part = paths[start:start + size]
            cells = list(pool.map(_thumbnail, part, [atlas.side] * len(part)))
            for i, cell in enumerate(cells):
                if cell is None:
                    atlas.unreadable.append(start + i)
                    cells[i] = _crossed_out(atlas.side)
            atlas.sheets.append(_sheet(cells, atlas.side))
    return atlas


def _side(paths: Sequence[Path]) -> int:
    """The largest side at which all fit in PIXELS.

    A smaller one where it already shows the images of the first sheet at their full size.
    """
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
    """The field of an image that cannot be read, (side, side, 3)."""
    cell = Image.new("RGB", (side, side), "#d8d8d4")
    draw = ImageDraw.Draw(cell)
    end = side - 1
    for line in ((0, 0, end, end), (end, 0, 0, end)):
        draw.line(line, fill="#8a8a84", width=2)
    return np.asarray(cell)


def _sheet(cells: list[np.ndarray], side: int) -> bytes:
    """Up to COLUMNS x ROWS cells as one JPEG, as high as they need."""
    white = np.full((side, side, 3), 255, dtype=np.uint8)
    cells = [*cells, *[white] * (-len(cells) % COLUMNS)]
    grid = np.stack(cells).reshape(-1, COLUMNS, side, side, 3)
    sheet = grid.swapaxes(1, 2).reshape(-1, COLUMNS * side, 3)  # (H, W, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
