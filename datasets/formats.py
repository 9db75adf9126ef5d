"""Which files are images, and how one is opened: by all commands alike.

A name says nothing about the content, which may be hostile. Only regular files are opened, since a
pipe or a device would be waited for without end. Only raster formats are read, since Pillow hands
some others, such as EPS, to programs of the system.
"""
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, features
from PIL.JpegImagePlugin import JpegImageFile

from datasets.preprocess import JPEG, LARGEST

# Pillow's name of each format, and the endings of its files
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
# what stands in bytes 4 to 12 of a HEIC file; Pillow itself cannot read it
HEIF = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypmif1", b"ftypmsf1")
NO_HEIF = "HEIC needs the package pillow-heif: install it"


@cache
def readable() -> dict[str, tuple[str, ...]]:
    """The formats that can be read here."""
    present = dict(ENDINGS)
    if "avif" not in features.modules or not features.check("avif"):
        del present["AVIF"]
    try:
        import pillow_heif
    except ImportError:
        del present["HEIF"]
    else:
        pillow_heif.register_heif_opener()
    return present


@cache
def suffixes() -> frozenset[str]:
    """The endings of images, in small letters."""
    return frozenset(ending for endings in readable().values() for ending in endings)


@dataclass(frozen=True)
class Content:
    """The bytes of an image file that need not lie on the disk; `name` is how errors call it."""

    data: bytes
    name: str

    def __str__(self) -> str:
        return self.name


# Of an image, not yet decoded.
Source = str | Path | Content


def open_regular(path: Source) -> BinaryIO:
    """The file, open for reading."""
    if isinstance(path, Content):
        return BytesIO(path.data)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is a pipe, a device or a folder")
    return open(path, "rb")


@contextmanager
def open_image(path: Source) -> Iterator[Image.Image]:
    """The image in a file, not yet decoded."""
    with open_regular(path) as file, image_in(file) as image:
        yield image


def image_in(file: BinaryIO) -> Image.Image:
    """The image in an open file. A JPEG may have more pixels than Pillow allows; see `least_factor`."""
    start = file.read(12)
    file.seek(0)
    if start.startswith(JPEG):
        image = JpegImageFile(file)
        if image.width * image.height > LARGEST:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        return image
    with suppress(UnidentifiedImageError):
        return Image.open(file, formats=tuple(readable()))
    if start[4:] in HEIF and "HEIF" not in readable():
        raise ValueError(NO_HEIF)
    raise ValueError(f"it is damaged, or none of {', '.join(readable())}")
