"""The images of a split as tensors: decoded, transformed, collated."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.base import Batch, Draw, ImageList, mixed_seed
from datasets.cache import ImageCache
from datasets.decode import decode, decode_for
from datasets.transforms import Transform
from utilities.seed import seeded


@dataclass(eq=False)
class ImageDataset(Dataset):
    """Decoded and transformed images: dataset[row] -> (image, label, row).

    A sampler may ask with a Draw instead of a row: then the transform's random choices follow from
    it and `seed`. The image is the transform's uint8 pixels, not yet normalised; a plain function
    as transform gets the decoded image.
    """

    images: ImageList
    transform: Callable[[Tensor], Tensor]
    seed: int = 0
    cache: ImageCache | None = None

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, which: int | Draw) -> tuple[Tensor, int, int]:
        draw = which if isinstance(which, Draw) else Draw(int(which), epoch=0, position=0)
        with seeded(mixed_seed(self.seed, *draw)):
            image = self._image(draw.index)  # (3, H, W)
        return image, self.images.labels[draw.index], draw.index

    def _image(self, row: int) -> Tensor:
        """The transformed image, from the cache where there is one."""
        path = self.images.paths[row]
        transform = self.transform
        if not isinstance(transform, Transform):
            return transform(decode(path))
        if self.cache is None:
            return transform.finish(*decode_for(path, transform.plan))
        pixels, size = self.cache[path]
        return transform.finish(pixels, size, transform.plan(*size))


def collate(rows: Sequence[tuple[Tensor, int, int]]) -> Batch:
    """Rows of an ImageDataset to one Batch, its images channels last: as decoders write them and
    networks read them fastest.
    """
    images, labels, indices = zip(*rows)
    image = torch.stack([one.permute(1, 2, 0) for one in images])  # (B, H, W, 3)
    image = image.permute(0, 3, 1, 2)  # (B, 3, H, W)
    return Batch(image, torch.tensor(labels), torch.tensor(indices))
