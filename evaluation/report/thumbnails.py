"""Images and class names as pictures show them: small, whole, in a square."""
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from datasets.decode import decode
from evaluation.report.letters import drawable

BACKGROUND = "#f2f2f2"


def load_image(path: Path, longest: int) -> Image.Image:
    """The image in a file, at most `longest` pixels on its longer side."""
    image = Image.fromarray(decode(path).permute(1, 2, 0).numpy())  # (H, W, 3)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def in_square(image: Image.Image, side: int) -> np.ndarray:
    """An image, whole, in the middle of a light square (side, side, 3)."""
    method = Image.Resampling.BICUBIC if max(image.size) < side else Image.Resampling.LANCZOS
    square = ImageOps.pad(image.convert("RGB"), (side, side), method, BACKGROUND)
    return np.asarray(square)  # (side, side, 3)


def short_name(name: str, length: int = 17) -> str:
    """A class name for a caption: no leading number, no underscores, cut in the middle."""
    name = drawable(re.sub(r"^\d+[._ ]+(?=\D)", "", str(name)).replace("_", " ").strip())
    if len(name) <= length:
        return name
    head = length // 2
    tail = length - head - 1
    return f"{name[:head].rstrip()}…{name[-tail:].lstrip()}"
