"""From an image file to the input of the model beside this file, by Pillow and NumPy alone.

    from preprocess import prepare
    image = prepare("photo.jpg")  # (1, 3, H, W) float32

A copy of this file lies beside every exported model, so it imports nothing else of the program. The
steps are those of the program, which uses `to_rgb` itself: decode, upright by EXIF; greys of more
than 8 bits to 8; transparent parts on white; the shorter side resized; the central square; the
numbers of `preprocessing` in model.json.
"""
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# raster formats; Pillow hands some others to programs of the system
FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF"]
# modes of Pillow with an alpha channel
TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
UPRIGHT = 1
ORIENTATION = 0x0112  # of EXIF
# the largest grey of images of 8, 12 or 16 bits
RANGES = (255, 4095, 65535)
# longer side / shorter side of what is resized; of longer images the middle
LONGEST = 32


def prepare(path: str | Path, settings: dict | None = None) -> np.ndarray:
    """The input for one image, (1, 3, H, W) float32.

    settings: `preprocessing` of a model.json; None: of the one beside this file.
    """
    if settings is None:
        text = Path(__file__).with_name("model.json").read_text(encoding="utf-8")
        settings = json.loads(text)["preprocessing"]
    image = centre(load(path, settings["resize"]), settings["resize"], settings["crop"])
    pixels = np.asarray(image, dtype=np.float32)  # (H, W, 3)
    if settings["channels"] == "BGR":
        pixels = pixels[:, :, ::-1]
    value = pixels / 255 * settings["value_range"]
    value = (value - settings["mean"]) / settings["std"]
    return value.transpose(2, 0, 1)[None].astype(np.float32)


def load(path: str | Path, resize: int) -> Image.Image:
    """The image in RGB, upright; a JPEG as large as its resizing needs."""
    with Image.open(path, formats=FORMATS) as image:
        kind = image.format
        if kind == "JPEG" and image.mode in ("RGB", "L") and is_upright(image):
            room = min(image.size) // resize
            by = next((by for by in (8, 4, 2) if by <= room), 1)
            image.draft(None, (image.width // by, image.height // by))
        image.load()
        # an EXIF block may be damaged in any way, and the pixels are still good
        with suppress(Exception):
            image = ImageOps.exif_transpose(image)
        return to_rgb(image, kind)


def is_upright(image: Image.Image) -> bool:
    """Whether EXIF, where there is any, leaves the image as it is."""
    with suppress(Exception):
        return image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT
    return True


def to_rgb(image: Image.Image, kind: str) -> Image.Image:
    """Any mode of Pillow to RGB; transparent parts become white. kind: the file's format."""
    if has_many_bits(image):
        is_full = image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM"))
        image = Image.fromarray(to_8_bits(np.asarray(image), 65535 if is_full else None))
    if image.mode in TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def has_many_bits(image: Image.Image) -> bool:
    """Whether its greys have more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def to_8_bits(values: np.ndarray, white: float | None) -> np.ndarray:
    """Greys by the value for white; without one by the smallest usual range that holds them."""
    if white is None:
        largest = float(values[np.isfinite(values)].max(initial=0))
        usual = (1, *RANGES) if values.dtype.kind == "f" else RANGES
        white = next((one for one in usual if largest <= one), largest)
    with np.errstate(over="ignore"):
        scaled = np.nan_to_num(values) * (255 / white)
    return scaled.round().clip(0, 255).astype(np.uint8)  # (H, W)


def centre(image: Image.Image, resize: int, crop: int) -> Image.Image:
    """The shorter side brought to `resize`, and the square of `crop` pixels in the middle."""
    short = min(image.size)
    kept = [min(side, LONGEST * short) for side in image.size]
    if list(image.size) != kept:
        image = middle(image, *kept)
    size = tuple(side * resize // short for side in image.size)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return middle(image, crop, crop)


def middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """The part in the middle."""
    left = round((image.width - width) / 2)
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
