"""Which part of an image becomes the network's input, decided from the image's size alone, before it is decoded.

A plan is called with the height and width of the upright image and returns a Crop; those that draw do it from torch's
generator. Knowing the Crop first, `datasets.decode` need not decode more finely than it asks for.
"""
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize_image

REDUCTIONS = (8, 4, 2)   # what JPEG decoders can scale down by while they decode
LONGEST = 32             # longer side / shorter side of what is resized; of longer images the part around the window


class Crop(NamedTuple):
    """A box of the image is resized, a window of the result is kept, and that is mirrored where `flip` says so.

    box: (top, left, height, width) in pixels of the upright image; resized: (height, width) of the box after resizing;
    window: (top, left, height, width) in pixels of the resized box.
    """

    box: tuple[int, int, int, int]
    resized: tuple[int, int]
    window: tuple[int, int, int, int]
    flip: bool = False

    def reduction(self) -> int:
        """The largest factor by which the image may be scaled down before: the box keeps at least its resized size."""
        room = min(self.box[2] / self.resized[0], self.box[3] / self.resized[1])
        return next((factor for factor in REDUCTIONS if factor <= room), 1)

    def cut(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """The crop (3, h, w) of an image of `size` (height, width) whose pixels (3, H, W) may be fewer than that."""
        part = _part(pixels, self._box_in(pixels.shape[1:], size))                 # (3, h, w)
        if part.shape[1:] != self.resized:
            part = part.permute(1, 2, 0).contiguous().permute(2, 0, 1)             # in one piece: a quarter less time,
            part = resize_image(part, list(self.resized), antialias=True)          # and the result is channels last
        part = _part(part, self.window)
        return part.flip(-1) if self.flip else part

    def _box_in(self, present: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The box in pixels of an image scaled from `size` to `present`, its edges rounded, at least one pixel each
        way."""
        if present == size:
            return self.box
        edges = []
        for start, length, here, whole in zip(self.box[:2], self.box[2:], present, size):
            first = min(round(start * here / whole), here - 1)
            edges.append((first, max(first + 1, round((start + length) * here / whole)) - first))
        (top, height), (left, width) = edges
        return top, left, height, width


def _part(image: Tensor, place: tuple[int, int, int, int]) -> Tensor:
    """The part at (top, left, height, width) of an image; the image itself where that is all of it."""
    top, left, height, width = place
    if image.shape[1:] == (height, width):
        return image
    return image[:, top:top + height, left:left + width]                           # (3, height, width)


def shorter_side(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) with the shorter one brought to `side`, the longer one rounded down, as torchvision's Resize."""
    if height <= width:
        return side, side * width // height
    return side * height // width, side


class RandomResizedCrop:
    """A random box resized to a square, mirrored every other time (Szegedy 2015).

    Its share of the area is uniform in `scale` and the logarithm of width / height in that of `ratio`; drawn number for
    number as torchvision's RandomResizedCrop and RandomHorizontalFlip draw.
    """

    def __init__(self, side: int, scale: tuple[float, float] = (0.08, 1.0),
                 ratio: tuple[float, float] = (3 / 4, 4 / 3)):
        self.side, self.scale, self.ratio = side, scale, ratio
        self.log_ratio = torch.log(torch.tensor(ratio)).tolist()

    def __call__(self, height: int, width: int) -> Crop:
        box, side = self._box(height, width), self.side
        return Crop(box, (side, side), (0, 0, side, side), flip=torch.rand(1).item() < 0.5)

    def _box(self, height: int, width: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = height * width * torch.empty(1).uniform_(*self.scale).item()
            ratio = torch.empty(1).uniform_(*self.log_ratio).exp().item()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return _random_place(height, width, h, w)
        low, high = self.ratio                                                     # long images: the widest that fits
        w, h = (min(width, round(height * high)), min(height, round(width / low)))
        return (height - h) // 2, (width - w) // 2, h, w


class RandomCrop:
    """The shorter side resized, a random square of the result, mirrored every other time."""

    def __init__(self, side: int, resize: int):
        self.side, self.resize = side, resize

    def __call__(self, height: int, width: int) -> Crop:
        resized = shorter_side(height, width, self.resize)
        window = _random_place(*resized, self.side, self.side)
        return _shortened((height, width), resized, window)._replace(flip=torch.rand(1).item() < 0.5)


class CentreCrop:
    """The shorter side resized and the square in the centre; an image that fits already passes untouched."""

    def __init__(self, side: int, resize: int):
        self.side, self.resize = side, resize

    def __call__(self, height: int, width: int) -> Crop:
        resized, side = shorter_side(height, width, self.resize), self.side
        top, left = (round((length - side) / 2) for length in resized)
        return _shortened((height, width), resized, (top, left, side, side))


class Shrink:
    """The whole image, its shorter side at most `side`: what a cache keeps."""

    def __init__(self, side: int):
        self.side = side

    def __call__(self, height: int, width: int) -> Crop:
        resized = shorter_side(height, width, min(self.side, height, width))
        return Crop((0, 0, height, width), resized, (0, 0, *resized))


def _shortened(size: tuple[int, int], resized: tuple[int, int], window: tuple[int, int, int, int]) -> Crop:
    """The window of an image of `size`, its shorter side resized. One longer than LONGEST times that is first cut to
    this length around the window, else a line of 1 x 5,000 pixels would become a gigabyte."""
    short, side, place = min(size), min(resized), []
    for length, whole, start, part in zip(size, resized, window[:2], window[2:]):
        kept = min(length, LONGEST * short)
        first = min(max(0, round((start + part / 2) * short / side - kept / 2)), length - kept)
        here = whole if kept == length else LONGEST * side
        place.append((first, kept, here, min(max(0, start - round(first * side / short)), here - part)))
    first, kept, here, start = zip(*place)
    return Crop((*first, *kept), here, (*start, *window[2:]))


def _random_place(height: int, width: int, h: int, w: int) -> tuple[int, int, int, int]:
    """A box of h x w anywhere within height x width."""
    top, left = (torch.randint(0, room + 1, (1,)).item() for room in (height - h, width - w))
    return top, left, h, w
