"""An image file as part of a page."""
import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from datasets.formats import open_image

WIDTHS = (1600, 1200, 900, 600, 400)  # pixels of a reduced image: the first that is small enough
QUALITY = 84


class ImageData(NamedTuple):
    """The address of an image that the page itself contains, and its size in pixels."""

    source: str
    width: int
    height: int


def image_data(path: Path, limit: int) -> ImageData | None:
    """The image in a file, in at most `limit` bytes; None where there is none that can be read.

    A larger one, or one that is no PNG, becomes a WebP, whose transparent pixels stay so.
    """
    try:
        with open_image(path) as image:
            if image.format == "PNG" and path.stat().st_size <= limit:
                image.load()  # a damaged file fails here
                return _encoded("png", path.read_bytes(), image)
            return _reduced(image, limit)
    except Exception:  # a damaged file raises nearly any type
        return None


def _encoded(kind: str, content: bytes, image: Image.Image) -> ImageData:
    text = base64.b64encode(content).decode()
    return ImageData(f"data:image/{kind};base64,{text}", *image.size)


def _reduced(image: Image.Image, limit: int) -> ImageData:
    """The image as the widest WebP within the limit."""
    for width in WIDTHS:
        small = image.convert("RGBA")
        small.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=QUALITY, method=1)
        if buffer.tell() <= limit:
            break
    return _encoded("webp", buffer.getvalue(), small)
