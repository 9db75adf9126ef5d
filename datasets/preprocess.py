"""From an image file to the input of the model beside this file, by Pillow and NumPy alone.

    from preprocess import prepare
    image = prepare("photo.jpg")  # (1, 3, H, W) float32

A copy of this file lies beside every exported model, so it imports nothing else of the program. The
steps are those of the program, which uses `to_rgb` itself: decode, upright by EXIF; greys of more
than 8 bits to 8; transparent parts on white; the shorter side resized; the central square; the
numbers of `preprocessing` in model.json.

Pixels are resized in whole numbers, as torch resizes bytes. Pillow rounds otherwise, which would move
the rows of a network by 1e-4 and more.
"""
import json
import math
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

# raster formats; Pillow hands some others to programs of the system
FORMATS = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF"]
JPEG = b"\xff\xd8\xff"  # how every JPEG begins
# pixels of a JPEG; larger ones than Pillow allows are scaled down while they are decoded
LARGEST = 2**29
# modes of Pillow with an alpha channel
TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
UPRIGHT = 1
ORIENTATION = 0x0112  # of EXIF
# the largest grey of images of 8, 12 or 16 bits
RANGES = (255, 4095, 65535)
# longer side / shorter side of what is resized; of longer images the middle
LONGEST = 32

Size = tuple[int, int]  # (width, height)


def prepare(path: str | Path, settings: dict | None = None) -> np.ndarray:
    """The input for one image, (1, 3, H, W) float32.

    settings: `preprocessing` of a model.json; None: of the one beside this file.
    """
    if settings is None:
        text = Path(__file__).with_name("model.json").read_text(encoding="utf-8")
        settings = json.loads(text)["preprocessing"]
    image, size, by = load(path, settings["resize"])
    pixels = centre(np.asarray(image), size, by, settings["resize"], settings["crop"])
    if settings["channels"] == "BGR":
        pixels = pixels[:, :, ::-1]  # (H, W, 3)
    value = pixels.astype(np.float32) / 255 * settings["value_range"]
    value = (value - settings["mean"]) / settings["std"]
    return value.transpose(2, 0, 1)[None].astype(np.float32)


def load(path: str | Path, resize: int) -> tuple[Image.Image, Size, int]:
    """The image in RGB, upright; its whole size; and by what a JPEG was scaled down, so that it is
    no larger than its resizing needs.
    """
    with opened(path) as image:
        kind = image.format
        size = None
        by = 1
        if kind == "JPEG":
            least = least_factor(*image.size)
            if image.mode in ("RGB", "L") and is_upright(image):
                room = min(image.size) // resize
                by = max(least, next((by for by in (8, 4, 2) if by <= room), 1))
                size = image.size
            draft = max(least, by)
            image.draft(None, (image.width // draft, image.height // draft))
        image.load()
        # an EXIF block may be damaged in any way, and the pixels are still good
        with suppress(Exception):
            image = ImageOps.exif_transpose(image)
        return to_rgb(image, kind), size or image.size, by


def opened(path: str | Path) -> Image.Image:
    """The image, not yet decoded; a JPEG of several pictures counts as its first."""
    with open(path, "rb") as file:
        is_jpeg = file.read(len(JPEG)) == JPEG
    if not is_jpeg:
        # of a TIFF that it reads by its path Pillow loses the orientation
        return Image.open(BytesIO(Path(path).read_bytes()), formats=FORMATS)
    image = JpegImageFile(path)
    if image.width * image.height > LARGEST:
        raise ValueError(f"{path}: {image.width} x {image.height} pixels are too many")
    return image


def least_factor(width: int, height: int) -> int:
    """By what a JPEG's sides are divided at least, so that Pillow's limit holds."""
    limit = Image.MAX_IMAGE_PIXELS
    return next((by for by in (1, 2, 4) if width * height <= limit * by**2), 8)


def is_upright(image: Image.Image) -> bool:
    """Whether EXIF, where there is any, leaves the image as it is."""
    with suppress(Exception):
        return image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT
    return True


def to_rgb(image: Image.Image, kind: str) -> Image.Image:
    """Any mode of Pillow to RGB; transparent parts become white. kind: the file's format."""
    if has_many_bits(image):
        is_full = image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM"))
        values = np.asarray(image)
        greys = to_8_bits(values, 65535 if is_full else None)
        # a grey that stands for transparent parts
        greys[values == image.info.get("transparency", -1)] = 255
        image = Image.fromarray(greys)
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


def centre(pixels: np.ndarray, size: Size, by: int, resize: int, crop: int) -> np.ndarray:
    """The shorter side brought to `resize`, and the square of `crop` pixels in the middle.

    size: (width, height) of the file. by: how many pixels of it, down and across, one of the
    pixels (h, w, 3) stands for; the last ones may stand for fewer.
    """
    short = min(size)
    # the longer side is rounded down
    sides = [side * resize // short for side in size]
    # across first, as torch does
    for axis, whole, side in zip((1, 0), size, sides):
        middle = round((side - crop) / 2)
        first, kept, side, start = shortened(whole, side, middle, crop, short, resize)
        present = pixels.shape[axis]
        first, kept = scaled(first, kept, present, present * by)
        pixels = resized(part(pixels, axis, first, kept), side, axis)
        pixels = part(pixels, axis, start, crop)
    return pixels


def shortened(length: int, resized: int, start: int, window: int, short: int,
              side: int) -> tuple[int, int, int, int]:
    """Of a side and a window of it once it is resized: start and length of the box to resize, its
    resized length, start of the window in that. The shorter side, `short`, becomes `side`.

    A side longer than LONGEST times the shorter one is cut to this length around the window, else
    a line of 1 x 5,000 pixels would become a gigabyte.
    """
    kept = min(length, LONGEST * short)
    first = round((start + window / 2) * short / side - kept / 2)
    first = min(max(0, first), length - kept)
    if kept < length:
        resized = LONGEST * side
    start = max(0, start - round(first * side / short))
    return first, kept, resized, min(start, resized - window)


def scaled(start: int, length: int, present: int, whole: int) -> tuple[int, int]:
    """Start and length on a side scaled from `whole` to `present`: edges rounded, at least one
    pixel.
    """
    first = min(round(start * present / whole), present - 1)
    last = max(first + 1, round((start + length) * present / whole))
    return first, last - first


def part(pixels: np.ndarray, axis: int, start: int, length: int) -> np.ndarray:
    """So many pixels of a side."""
    return pixels.take(range(start, start + length), axis)


def resized(pixels: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Bytes (H, W, 3) with one side brought to `length`: bilinear with antialiasing."""
    if pixels.shape[axis] == length:
        return pixels
    source, weight = neighbours(pixels.shape[axis], length)  # (length, K) each
    bits = precision(weight.max())
    weight = np.floor(weight * 2**bits + 0.5)
    weight = weight.astype(np.int32)[:, :, None, None]  # (length, K, 1, 1)
    pixels = np.moveaxis(pixels, axis, 0)
    # a half, so that the shift below rounds
    total = 2 ** (bits - 1)
    for k in range(source.shape[1]):
        total = total + weight[:, k] * pixels[source[:, k]]
    mean = (total >> bits).clip(0, 255)
    return np.moveaxis(mean.astype(np.uint8), 0, axis)


def neighbours(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The K pixels of a side that each of `wanted` new ones is the mean of, and their weights."""
    scale = length / wanted
    reach = max(scale, 1.0)
    number = np.arange(wanted)[:, None]  # (wanted, 1)
    place = scale * (number + 0.5)
    first = np.maximum(place - reach + 0.5, 0)
    end = np.minimum(place + reach + 0.5, length)
    source = first.astype(int) + np.arange(2 * math.ceil(reach) + 1)  # (wanted, K)
    distance = (source - place + 0.5) * (1 / reach)
    weight = np.maximum(1 - abs(distance), 0)
    weight[source >= end.astype(int)] = 0
    weight /= weight.sum(1, keepdims=True)
    return source.clip(max=length - 1), weight


def precision(largest: float) -> int:
    """The bits by which a weight is multiplied so that the largest one stays below 2^15."""
    bits = 0
    while bits < 22 and int(0.5 + largest * 2 ** (bits + 1)) < 2**15:
        bits += 1
    return bits
