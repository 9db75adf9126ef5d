"""From a decoded uint8 image (3, h, w) to a normalised float image (3, size, size).

Random choices come from torch's generator alone, so that whoever seeds it decides them (see ImageDataset).
"""
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from utilities.errors import UsageError

AUGMENTATIONS = ("base", "shift", "none")
SMALL = 64   # up to this side, images are whole objects (characters, icons): no margin to cut off


def train_transform(augmentation: str, image_size: int, mean: Sequence[float], std: Sequence[float],
                    scale: tuple[float, float] = (0.08, 1.0)) -> v2.Compose:
    """The training transform by the name of its augmentation.

    base: a random part of the image (its share of the area in `scale`), resized, and a horizontal flip every other
    time, as the base framework. shift: fitted to the size, then moved by up to an eighth of it, what is uncovered
    mirrored; no flip, for a mirrored character is another character. none: fitted to the size.
    """
    if augmentation == "base":
        steps = [v2.RandomResizedCrop(image_size, scale=scale, antialias=True), v2.RandomHorizontalFlip()]
    elif augmentation == "shift":
        steps = [Fit(image_size, image_size), Shift(image_size)]
    elif augmentation == "none":
        steps = [Fit(image_size, image_size)]
    else:
        raise UsageError(f"--augmentation {augmentation}: there is no augmentation of this name; "
                         f"choose one of: {', '.join(AUGMENTATIONS)}.")
    return v2.Compose([*steps, Normalise(mean, std)])


def eval_transform(image_size: int, mean: Sequence[float], std: Sequence[float],
                   resize_size: int | None = None) -> v2.Compose:
    """The evaluation transform: the shorter side to `resize_size`, then the centre of image_size x image_size.

    Default of resize_size: 256/224 of the image size, as is usual; up to 64 pixels the image size itself, so that
    images which have it already pass as they are, and of others only the longer side loses anything.
    """
    if resize_size is None:
        resize_size = image_size if image_size <= SMALL else round(image_size * 256 / 224)
    return v2.Compose([Fit(image_size, resize_size), Normalise(mean, std)])


class Fit(nn.Module):
    """Any image to a square: the shorter side resized, the centre kept; one that fits already passes untouched."""

    def __init__(self, image_size: int, resize_size: int):
        super().__init__()
        self.size = (image_size, image_size)
        self.steps = nn.Sequential(v2.Resize(resize_size, antialias=True), v2.CenterCrop(image_size))
        self.passes = image_size == resize_size

    def forward(self, image: Tensor) -> Tensor:
        """(3, h, w) -> (3, H, W)"""
        return image if self.passes and image.shape[1:] == self.size else self.steps(image)


class Shift(nn.Module):
    """Moved by up to an eighth each way, what is uncovered mirrored; a fraction of the time of v2's pad and crop."""

    def __init__(self, image_size: int):
        super().__init__()
        self.size, self.margin, last = image_size, image_size // 8, image_size - 1
        place = torch.arange(-self.margin, image_size + self.margin)
        self.source = last - (last - place.abs()).abs()                            # (H + 2 margin,), as if mirrored

    def forward(self, image: Tensor) -> Tensor:
        """(3, H, W) -> (3, H, W)"""
        top, left = torch.randint(2 * self.margin + 1, (2,)).tolist()
        rows, columns = self.source[top:top + self.size], self.source[left:left + self.size]
        return image.index_select(1, rows).index_select(2, columns)                # (3, H, W)


class Normalise(nn.Module):
    """uint8 to float in [0, 1], less the mean, over the standard deviation of each channel, in one pass."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        mean, std = torch.tensor(mean), torch.tensor(std)
        self.scale, self.offset = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]     # (3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 -> (3, H, W) float"""
        return torch.addcmul(self.offset, image.float(), self.scale)
