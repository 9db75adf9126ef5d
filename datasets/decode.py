"""From an image file to an RGB tensor, or to one sentence that names the file."""
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utilities.errors import RunError

_MARK = "\ndatasets.decode.ImageError: "   # how a traceback introduces the error; only there it starts a line


class ImageError(RunError):
    """An image that cannot be read.

    A loader's worker process cannot hand over the exception itself: the parent builds a new one from the whole text
    of the worker's traceback. So the constructor picks the sentence out of such a text.
    """

    def __init__(self, text: str):
        super().__init__(text.partition(_MARK)[2].strip() or text)


def decode(path: str | Path) -> Tensor:
    """The image as uint8 RGB, upright: EXIF orientation applied, transparency laid on white, 16 bits brought to 8."""
    try:
        with Image.open(path) as image:
            image.load()
            pixels = np.array(to_rgb(_upright(image)))                             # (H, W, 3)
    except FileNotFoundError:
        raise ImageError(f"{path}: the image is gone since the data set was read; restore it and run again.") from None
    except Exception as error:   # a damaged file raises nearly any type, by format: OSError, ValueError, SyntaxError...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: this image cannot be decoded ({reason}); "
                         "replace it, or remove it from the data set, and run again.") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)                               # (3, H, W)


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; as it is where that cannot be read, for the pixels are still good."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:   # EXIF blocks are as varied in their damage as images
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of PIL to RGB; transparent parts become white, as on a page."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Integers of 16 bits by their full range; floats by 1, or by 255 where they exceed 1."""
    if pixels.dtype.kind == "f":
        scaled = np.nan_to_num(pixels) * (255 if np.nanmax(pixels, initial=0) <= 1 else 1)
    else:
        scaled = pixels.astype(np.float64) / 257
    return scaled.round().clip(0, 255).astype(np.uint8)                            # (H, W)
