"""From an image to the network's input: a crop, changes of its pixels, and normalisation where the
network computes.

Random choices come from torch's generator alone, so that whoever seeds it decides them (see
ImageDataset).
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datasets.crops import CentreCrop, Crop, RandomCrop, RandomResizedCrop
from utilities.errors import UsageError

AUGMENTATIONS = ("base", "adv", "big", "red", "shift", "none")
# up to this side, images are whole objects (characters, icons): no margin to cut off
SMALL = 64


@dataclass(eq=False)
class Transform:
    """plan(height, width) -> the Crop to take; then `finish` on its uint8 pixels.

    `normalise` is left to the loader. Called with a decoded image (3, h, w) it gives the uint8
    pixels (3, H, W); a data set asks for the plan first and decodes no more than it needs.
    """

    plan: Callable[[int, int], Crop]
    normalise: "Normalise"
    change: nn.Module | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """(3, h, w) uint8 -> (3, H, W) uint8"""
        size = tuple(image.shape[1:])
        return self.finish(image, size, self.plan(*size))

    def finish(self, pixels: Tensor, span: tuple[int, int], crop: Crop) -> Tensor:
        """The crop, and what is changed of it; for `span` see Crop.cut. (3, h, w) uint8 -> (3,
        H, W) uint8
        """
        image = crop.cut(pixels, span)
        return self.change(image) if self.change else image


class Sides(NamedTuple):
    """Side of the square input, and of the image's shorter side before that square is cut
    (pixels).
    """

    input: int
    resize: int


def sides(image_size: int, crop_size: int | None = None, augmentation: str = "base") -> Sides:
    """The sides that --image_size, --crop_size and --augmentation ask for.

    With a crop size that is the input, cut from an image of `image_size`. Without one the input is
    of image_size, cut from 256/224 of that, as is usual. Up to 64 pixels it is cut from image_size
    itself, so that images of that size pass as they are and of others only the longer side loses
    anything. 'big' takes all 256/224 as the input.
    """
    if crop_size is not None:
        return Sides(crop_size, image_size)
    wide = round(image_size * 256 / 224)
    if augmentation == "big":
        return Sides(wide, wide)
    return Sides(image_size, image_size if image_size <= SMALL else wide)


def cache_side(side: int) -> int:
    """The side at which a cache keeps images for an input of this side.

    It is half as much again as evaluation resizes to, so that a crop of a usual share of the image
    is seldom enlarged.
    """
    return round(1.5 * side * 256 / 224)


def train_transform(augmentation: str, image_size: int, mean: Sequence[float], std: Sequence[float],
                    *, crop_size: int | None = None, channels: str = "RGB",
                    value_range: float = 1.0,
                    scale: tuple[float, float] = (0.08, 1.0)) -> Transform:
    """The training transform by the name of its augmentation; for mean to value_range see
    Normalise.

    base, adv, big and red are those of the base framework (Roth 2020).

    base: a random part of the image (its share of the area in `scale`), resized, and a horizontal
        flip every other time.
    adv: the same, and colours: grey one time in five, brightness, contrast, saturation and hue
        changed by up to a fifth.
    big: base with 256/224 of the side.
    red: a random window of the resized image, and the flip; up to SMALL pixels only the longer
        side leaves room for it.
    shift: fitted to the size, then moved by up to an eighth of it, what is uncovered mirrored; no
        flip, for a mirrored character is another character.
    none: fitted to the size.
    """
    if augmentation not in AUGMENTATIONS:
        raise UsageError(f"--augmentation {augmentation}: there is no augmentation of this name; "
                         f"choose one of: {', '.join(AUGMENTATIONS)}.")
    side, resize = sides(image_size, crop_size, augmentation)
    if augmentation in ("shift", "none"):
        plan = CentreCrop(side, side if crop_size is None else resize)
    elif augmentation == "red":
        plan = RandomCrop(side, resize)
    else:
        plan = RandomResizedCrop(side, scale)
    change = None
    if augmentation == "adv":
        from torchvision.transforms import v2
        # grey one time in five, and colours changed by up to a fifth
        change = nn.Sequential(v2.RandomGrayscale(0.2), v2.ColorJitter(0.2, 0.2, 0.2, 0.2))
    elif augmentation == "shift":
        change = Shift(side)
    return Transform(plan, Normalise(mean, std, channels, value_range), change)


def eval_transform(image_size: int, mean: Sequence[float], std: Sequence[float], *,
                   crop_size: int | None = None, augmentation: str = "base", channels: str = "RGB",
                   value_range: float = 1.0, interpolation: str = "bilinear") -> Transform:
    """The evaluation transform of a network trained with these settings.

    The shorter side is resized and the centre kept.
    """
    plan = CentreCrop(*sides(image_size, crop_size, augmentation), interpolation)
    return Transform(plan, Normalise(mean, std, channels, value_range))


class Shift(nn.Module):
    """Moved by up to an eighth each way, what is uncovered mirrored; much faster than v2's pad
    and crop.
    """

    def __init__(self, image_size: int):
        super().__init__()
        self.size = image_size
        self.margin = image_size // 8
        last = image_size - 1
        place = torch.arange(-self.margin, image_size + self.margin)
        # the row or column that each place mirrors
        self.source = last - (last - place.abs()).abs()  # (H + 2 margin,)

    def forward(self, image: Tensor) -> Tensor:
        """(3, H, W) -> (3, H, W)"""
        top, left = torch.randint(2 * self.margin + 1, (2,)).tolist()
        source = self.source.to(image.device)
        image = image.index_select(1, source[top:top + self.size])
        return image.index_select(2, source[left:left + self.size])


class Normalise(nn.Module):
    """uint8 RGB to the floats that a network was trained on: less the mean, over the standard
    deviation.

    mean and std are per channel, in the network's own order of `channels` (RGB or BGR) and with
    values from 0 to `value_range` (1, or 255 as in networks that came from Caffe).
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: str = "RGB",
                 value_range: float = 1.0):
        super().__init__()
        if channels not in ("RGB", "BGR"):
            raise ValueError(f"channels are {channels!r}; they can be RGB or BGR")
        mean = torch.tensor(mean)[:, None, None]  # (3, 1, 1)
        std = torch.tensor(std)[:, None, None]  # (3, 1, 1)
        self.reverse = channels == "BGR"
        self.register_buffer("scale", value_range / (255 * std), persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 -> (..., 3, H, W) float, on the image's device"""
        self.to(image.device)
        if self.reverse:
            image = image.flip(-3)
        image = image.float()
        # in place: a third of the time
        return torch.addcmul(self.offset, image, self.scale, out=image)
