"""From an image file to an RGB tensor, or to one sentence that names the file."""
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from datasets.crops import Crop
from datasets.formats import Source, open_image, open_regular
from datasets.preprocess import JPEG, LARGEST, has_many_bits, least_factor, to_rgb
from utilities.errors import RunError, in_brief

# what a file holds that says which way is up, in EXIF or in XMP
ORIENTED = (b"Exif\0\0", b"tiff:Orientation")
# an image with no value above this, of 255, is nearly black
DARK = 16
# the image of which this process has said so
NOTED: list[Source] = []
# how a traceback introduces the error; only there it starts a line
_MARK = "\ndatasets.decode.ImageError: "


class ImageError(RunError):
    """An image that cannot be read.

    A loader's worker process cannot hand over the exception itself: the parent builds a new one
    from the whole text of the worker's traceback. So the constructor picks the sentence out of such
    a text.
    """

    def __init__(self, text: str):
        super().__init__(text.partition(_MARK)[2].strip() or text)


def decode(path: Source | Tensor) -> Tensor:
    """The image as uint8 RGB, upright: EXIF orientation applied, transparency laid on white, 16
    bits brought to 8. Pixels (3, H, W) that are decoded already are given back as they are.
    """
    if isinstance(path, Tensor):
        return path
    try:
        with open_image(path) as image:
            by = least_factor(*image.size)
            if by > 1:
                # a JPEG becomes smaller; nothing else has so many pixels
                image.draft(None, (image.width // by, image.height // by))
            image.load()
            pixels = to_pixels(image)
            if has_many_bits(image):
                _note_extremes(pixels, path)
            return pixels
    except FileNotFoundError:
        raise ImageError(f"{path}: the image is gone since the data set was read; restore it and "
                         "run again.") from None
    # a damaged file raises nearly any type, by format: OSError, ValueError, SyntaxError...
    except Exception as error:
        raise ImageError(f"{path}: this image cannot be decoded ({in_brief(error)}); "
                         "replace it, or remove it from the data set, and run again.") from None


def to_pixels(image: Image.Image) -> Tensor:
    """A loaded image of Pillow, in any mode, as `decode` gives those of files: uint8 (3, H, W)."""
    kind = image.format
    # an EXIF block may be damaged in any way, and the pixels are still good
    with suppress(Exception):
        image = ImageOps.exif_transpose(image)
    return _tensor(to_rgb(image, kind))


class Decoded(NamedTuple):
    """An image's pixels (3, h, w), uint8; the (height, width) that they cover; the crop to cut.

    span: in pixels of the file. It is up to 7 more than the file has where a JPEG was scaled down
    while decoding, since its last row and column are then of fewer pixels.
    """

    pixels: Tensor
    span: tuple[int, int]
    crop: Crop


def decode_for(path: Source | Tensor, plan: Callable[[int, int], Crop]) -> Decoded:
    """The image decoded as finely as the crop needs that `plan(height, width)` asks for.

    Of a plain JPEG the size is known from its header, so that it can be scaled down by 2, 4 or 8
    while it is decoded, which the format makes cheap. Whatever is not a plain JPEG, or does not
    decode as one, goes through `decode`.
    """
    jpeg = None if isinstance(path, Tensor) else read_jpeg(path)
    if jpeg is None:
        pixels = decode(path)
        size = tuple(pixels.shape[1:])
        return Decoded(pixels, size, plan(*size))
    crop = plan(*jpeg.size)
    reduction = max(crop.reduction(), least_factor(*jpeg.size))
    pixels, reduction = _decode_jpeg(jpeg, path, reduction)
    height, width = pixels.shape[1:]
    return Decoded(pixels, (height * reduction, width * reduction), crop)


class Jpeg(NamedTuple):
    """The content of a plain JPEG file, and its (height, width)."""

    data: bytes
    size: tuple[int, int]


def read_jpeg(path: Source) -> Jpeg | None:
    """A JPEG in colour or grey that lies upright, not yet decoded; None for any other file, a
    damaged one too.
    """
    try:
        with open_regular(path) as file:
            # PIL takes a tenth of a millisecond to say so
            if file.read(len(JPEG)) != JPEG:
                return None
            data = JPEG + file.read()
        size = _size_if_plain(data)
        if size is None or size[0] * size[1] > LARGEST or _turned(data):
            return None
        return Jpeg(data, size)
    # `decode` will say what is wrong
    except Exception:
        return None


def _size_if_plain(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG in colour or grey, from its header; None for one in CMYK."""
    library = _simplejpeg()
    if library:
        height, width, space, _ = library.decode_jpeg_header(data)
        return (height, width) if space in ("RGB", "YCbCr", "Gray") else None
    with JpegImageFile(BytesIO(data)) as image:
        return (image.height, image.width) if image.mode in ("RGB", "L") else None


def _turned(data: bytes) -> bool:
    """Whether a JPEG has an EXIF orientation other than upright; PIL is asked only where it can
    find one.
    """
    if not any(mark in data for mark in ORIENTED):
        return False
    with JpegImageFile(BytesIO(data)) as image:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1


def _decode_jpeg(jpeg: Jpeg, path: Source, reduction: int) -> tuple[Tensor, int]:
    """A plain JPEG, each side divided by `reduction` and rounded up: (3, h, w), and what it was
    divided by; where that fails, as `decode` gives it.
    """
    by_library = _by_simplejpeg if _simplejpeg() else _by_pil
    try:
        return by_library(jpeg, reduction), reduction
    except Exception:
        return decode(path), least_factor(*jpeg.size)


def _by_simplejpeg(jpeg: Jpeg, reduction: int) -> Tensor:
    """(3, h, w), the same pixels as by PIL, for both read by libjpeg-turbo.

    It takes two thirds to nine tenths of the time, since no copy is made. What libjpeg-turbo warns
    of is an error here, and PIL then decides.
    """
    least = {}
    if reduction > 1:
        height, width = jpeg.size
        least = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
    pixels = _simplejpeg().decode_jpeg(jpeg.data, min_factor=reduction, **least)
    return torch.from_numpy(pixels).permute(2, 0, 1)  # (3, h, w)


def try_to_decode(path: Source) -> str | None:
    """What the decoder warns of in a plain JPEG that it decodes nevertheless, such as bytes lost
    in its middle, or None; an ImageError where the image does not decode. Without simplejpeg
    nothing is warned of.
    """
    warning = None
    jpeg = read_jpeg(path) if _simplejpeg() else None
    if jpeg is not None:
        try:
            _by_simplejpeg(jpeg, least_factor(*jpeg.size))
            return None
        except Exception as error:
            warning = in_brief(error)
    decode(path)
    return warning


def _by_pil(jpeg: Jpeg, reduction: int) -> Tensor:
    """(3, h, w)"""
    image = JpegImageFile(BytesIO(jpeg.data))
    image.draft(None, (image.width // reduction, image.height // reduction))
    image.load()
    # even RGB to RGB would be a copy
    return _tensor(image if image.mode == "RGB" else image.convert("RGB"))


@cache
def _simplejpeg():
    """The package simplejpeg where it is installed; without it PIL does the same, more slowly."""
    with suppress(ImportError):
        import simplejpeg
        return simplejpeg


def _tensor(image):
    """An RGB image of PIL as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, H, W)


def _note_extremes(pixels: Tensor, path: Source) -> None:
    """Say once that greys of many bits have become nearly black or white."""
    is_black = pixels.max() <= DARK
    if not is_black and pixels.min() < 255 - DARK:
        return
    worker = torch.utils.data.get_worker_info()
    if not NOTED and (worker is None or worker.id == 0):
        NOTED.append(path)
        print(f"note: {path}: this image is nearly {'black' if is_black else 'white'}, as perhaps "
              "others are, since its greys use little of the range of their file "
              "(docs/datasets.md).")
