"""The images of a split as tensors: decoded, transformed, collated."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.base import Batch, Draw, ImageList, mixed_seed
from datasets.decode import decode

CACHE_BYTES = 64 * 2**20


class ImageDataset(Dataset):
    """Decoded and transformed images: dataset[row] -> (image, label, row).

    A sampler may ask with a Draw instead of a row: then the transform's random choices follow from it and `seed`.
    Decoded images are kept while they take less than CACHE_BYTES in this process, so that a set of small images is
    decoded once.
    """

    def __init__(self, images: ImageList, transform: Callable[[Tensor], Tensor], seed: int = 0):
        self.images, self.transform, self.seed = images, transform, seed
        self._decoded: dict[int, Tensor] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, which: int | Draw) -> tuple[Tensor, int, int]:
        draw = which if isinstance(which, Draw) else Draw(index=int(which), epoch=0, position=0)
        image = self._image(draw.index)                                            # (3, h, w)
        state = torch.default_generator.get_state()   # as fork_rng, which takes 240 us for all devices; this takes 4
        try:
            torch.default_generator.manual_seed(mixed_seed(self.seed, *draw))
            image = self.transform(image)                                          # (3, H, W)
        finally:
            torch.default_generator.set_state(state)
        return image, self.images.labels[draw.index], draw.index

    def _image(self, row: int) -> Tensor:
        """The decoded image, from memory where it is kept."""
        if row in self._decoded:
            return self._decoded[row]
        image = decode(self.images.paths[row])
        if image.numel() <= self._room:
            self._decoded[row] = image
            self._room -= image.numel()
        return image


def collate(rows: Sequence[tuple[Tensor, int, int]]) -> Batch:
    """Rows of an ImageDataset to one Batch."""
    image, label, index = zip(*rows)
    return Batch(torch.stack(image), torch.tensor(label), torch.tensor(index))     # (B, 3, H, W), (B,), (B,)
