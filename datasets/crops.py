"""Which part of an image becomes the network's input, decided from the image's size alone, before
it is decoded.

A plan is called with the height and width of the upright image and returns a Crop; those that draw
do it from torch's generator. With the Crop known first, `datasets.decode` need not decode more
finely than it asks for.
"""
import platform
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from datasets.preprocess import scaled, shortened

# what JPEG decoders can scale down by while they decode
REDUCTIONS = (8, 4, 2)
# how pixels are resized, each with antialiasing
INTERPOLATIONS = ("bilinear", "bicubic")
# width / height of a random box, at least and at most
RATIO = (3 / 4, 4 / 3)

Size = tuple[int, int]  # (height, width)
Box = tuple[int, int, int, int]  # (top, left, height, width)


class Crop(NamedTuple):
    """A box of the image is resized, a window of the result is kept, and that is mirrored if
    `flip`.

    box: in pixels of the upright image; resized: size of the box after resizing; window: in pixels
    of the resized box. interpolation: one of INTERPOLATIONS.
    """

    box: Box
    resized: Size
    window: Box
    flip: bool = False
    interpolation: str = "bilinear"

    def reduction(self) -> int:
        """The largest factor to scale the image down by first: the box keeps at least its
        resized size.
        """
        _, _, height, width = self.box
        room = min(height / self.resized[0], width / self.resized[1])
        return next((factor for factor in REDUCTIONS if factor <= room), 1)

    def cut(self, pixels: Tensor, span: Size) -> Tensor:
        """The crop (3, h, w) of pixels (3, H, W). span: the (height, width) that they cover, in
        pixels of the image, of which they may be fewer.
        """
        part = _part(pixels, self._box_in(pixels.shape[1:], span))  # (3, h, w)
        if part.shape[1:] != self.resized:
            part = _resized(part, self.resized, self.interpolation)
        part = _part(part, self.window)
        return part.flip(-1) if self.flip else part

    def _box_in(self, present: Size, span: Size) -> Box:
        """The box in pixels of an image scaled from `span` to `present`."""
        if present == span:
            return self.box
        sides = zip(self.box[:2], self.box[2:], present, span)
        start, length = zip(*[scaled(*side) for side in sides])
        return *start, *length


def _resized(part: Tensor, size: Size, mode: str) -> Tensor:
    """(3, h, w) uint8 -> (3, *size), pixel for pixel as torchvision resizes, whose import takes as
    long as that of torch.
    """
    # in one piece it takes a quarter less time, and the result is channels last
    image = part.permute(1, 2, 0).contiguous()[None].permute(0, 3, 1, 2)  # (1, 3, h, w)
    options = {"mode": mode, "align_corners": False, "antialias": True}
    if mode == "bilinear" and not has_fast_bytes():
        return interpolate(image.float(), size, **options).round_().to(torch.uint8)[0]
    return interpolate(image, size, **options)[0]


def has_fast_bytes() -> bool:
    """Whether the processor interpolates bytes as such."""
    vectors = torch.backends.cpu.get_cpu_capability()
    return vectors in ("AVX2", "AVX512") or platform.machine() in ("aarch64", "arm64")


def _part(image: Tensor, place: Box) -> Tensor:
    """The part of an image (3, height, width); the image itself where that is all of it."""
    top, left, height, width = place
    if image.shape[1:] == (height, width):
        return image
    return image[:, top:top + height, left:left + width]


def supported(interpolation: str) -> str:
    """The interpolation itself, if it is one of ours; else the nearest to it, as of Lanczos."""
    return interpolation if interpolation in INTERPOLATIONS else "bicubic"


def shorter_side(height: int, width: int, side: int) -> Size:
    """The size with the shorter side brought to `side`, the longer one rounded down, as
    torchvision's Resize.
    """
    short = min(height, width)
    return side * height // short, side * width // short


class RandomResizedCrop(NamedTuple):
    """A random box resized to a square, mirrored every other time (Szegedy 2015).

    Its share of the area is uniform in `scale` and the logarithm of width / height in that of
    RATIO, as torchvision's RandomResizedCrop and RandomHorizontalFlip draw them.
    """

    side: int
    scale: tuple[float, float] = (0.08, 1.0)

    def __call__(self, height: int, width: int) -> Crop:
        from torchvision import transforms
        # only the size is needed, not the pixels
        image = torch.empty(height, width, device="meta")
        box = transforms.RandomResizedCrop.get_params(image, self.scale, RATIO)
        side = self.side
        return Crop(box, (side, side), (0, 0, side, side), flip=_flip())


class RandomCrop(NamedTuple):
    """The shorter side resized, a random square of the result, mirrored every other time."""

    side: int
    resize: int

    def __call__(self, height: int, width: int) -> Crop:
        resized = shorter_side(height, width, self.resize)
        place = [torch.randint(length - self.side + 1, (1,)).item() for length in resized]
        window = (*place, self.side, self.side)
        return _shortened((height, width), resized, window)._replace(flip=_flip())


class CentreCrop(NamedTuple):
    """The shorter side resized and the square in the centre; an image that fits already passes
    untouched.
    """

    side: int
    resize: int
    interpolation: str = "bilinear"

    def __call__(self, height: int, width: int) -> Crop:
        resized = shorter_side(height, width, self.resize)
        place = [round((length - self.side) / 2) for length in resized]
        crop = _shortened((height, width), resized, (*place, self.side, self.side))
        return crop._replace(interpolation=self.interpolation)


class Shrink(NamedTuple):
    """The whole image, its shorter side at most `side`: what a cache keeps."""

    side: int

    def __call__(self, height: int, width: int) -> Crop:
        resized = shorter_side(height, width, min(self.side, height, width))
        return Crop((0, 0, height, width), resized, (0, 0, *resized))


def _shortened(size: Size, resized: Size, window: Box) -> Crop:
    """The window of an image of `size`, its shorter side resized; a very long one is cut first."""
    short = min(size)
    side = min(resized)
    sides = zip(size, resized, window[:2], window[2:])
    boxes = [shortened(*one, short, side) for one in sides]
    start, length, resized, place = zip(*boxes)
    return Crop((*start, *length), resized, (*place, *window[2:]))


def _flip():
    """True every other time."""
    return torch.rand(1).item() < 0.5
