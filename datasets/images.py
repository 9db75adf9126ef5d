"""The images of a split as tensors: decoded, transformed, collated."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.base import Batch, Draw, ImageList, mixed_seed
from datasets.cache import ImageCache
from datasets.decode import decode, decode_for
from datasets.on_device import Encoded, pack, read_encoded, stacked
from datasets.transforms import Transform
from utilities.seed import seeded


class ImageDataset(Dataset):
    """Decoded and transformed images: dataset[row] -> (image, label, row).

    A sampler may ask with a Draw instead of a row: then the transform's random choices follow from it and `seed`. The
    image is the transform's uint8 pixels, not yet normalised; a plain function as transform gets the decoded image.
    With `encoded` it is the file instead where that is a plain JPEG, for a DeviceDecoder.
    """

    def __init__(self, images: ImageList, transform: Callable[[Tensor], Tensor], seed: int = 0,
                 cache: ImageCache | None = None, encoded: bool = False):
        self.images, self.transform, self.seed, self.cache, self.encoded = images, transform, seed, cache, encoded

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, which: int | Draw) -> tuple[Tensor | Encoded, int, int]:
        draw = which if isinstance(which, Draw) else Draw(index=int(which), epoch=0, position=0)
        seed, row = mixed_seed(self.seed, *draw), draw.index
        image = read_encoded(self.images.paths[row], seed) if self.encoded else None
        if image is None:
            with seeded(seed):
                image = self._image(row)                                           # (3, H, W)
        return image, self.images.labels[row], row

    def _image(self, row: int) -> Tensor:
        """The transformed image, from the cache where there is one."""
        path, transform = self.images.paths[row], self.transform
        if not isinstance(transform, Transform):
            return transform(decode(path))
        if self.cache is None:
            return transform.finish(*decode_for(path, transform.plan))
        pixels, size = self.cache[path]
        return transform.finish(pixels, size, transform.plan(*size))


def collate(rows: Sequence[tuple[Tensor | Encoded, int, int]]) -> Batch:
    """Rows of an ImageDataset to one Batch, its images channels last, or packed where some are still files."""
    image, label, index = zip(*rows)
    image = (pack if any(isinstance(one, Encoded) for one in image) else stacked)(image)
    return Batch(image, torch.tensor(label), torch.tensor(index))                  # (B, 3, H, W), (B,), (B,)
