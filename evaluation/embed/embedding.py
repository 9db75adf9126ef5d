"""Unit embeddings of a set of images, by a network."""
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from datasets import Batch, batches
from datasets.decode import ImageError
from datasets.loader import Loader
from utilities import distributed
from utilities.bars import new_bar
from utilities.device import autocast

# the class of an image that cannot be decoded
DAMAGED = -1


def embed(network, loader: Loader, device: torch.device, *,
          amp: str = "none") -> tuple[Tensor, Tensor]:
    """Unit embeddings (N, D) in float32 and labels (N,) of a loader's images, on the CPU.

    Rows are in the order of the data set. Row i depends on image i alone, and the network's mode
    is left as it was. amp: precision of the backbone, as in training. Under torch.distributed each
    process embeds every world-size-th image, and all receive all rows. Memory: the result, once;
    with several processes once more on the device while they exchange it.
    """
    rank = distributed.rank()
    world = distributed.world()
    size = len(loader.dataset)
    rows = torch.zeros(size, network.embed_dim)  # (N, D)
    labels = torch.zeros(size, dtype=torch.long)  # (N,)
    if world > 1:
        loader = loader.over(Subset(loader.dataset, range(rank, size, world)))
    found = embedded(network, loader, device, amp=amp)
    bar = new_bar(found, total=len(loader), desc="embed", unit="batch",
                  hidden=rank > 0)
    for embedding, label, index in bar:
        rows[index] = embedding
        labels[index] = label
    if world > 1:
        # a row is zero in all processes but one, so that the sum is exact
        rows = rows.to(device)
        labels = labels.to(device)
        distributed.sum_in_place([rows, labels])
    return rows.cpu(), labels.cpu()


@torch.no_grad()
def embedded(network, loader: Loader, device: torch.device, *,
             amp: str = "none") -> Iterator[Batch]:
    """Batch by batch: rows (B, D), labels (B,) and the images' numbers (B,), on the CPU."""
    for image, label, index in batches(loader, device):
        with autocast(device, amp):
            embedding = network.embed(image, index)
        yield Batch(embedding.float().cpu(), label.cpu(), index.cpu())


class Tolerant(Dataset):
    """An ImageDataset in which an image that cannot be decoded is black and of class DAMAGED."""

    def __init__(self, images: Dataset):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        try:
            return self.images[index]
        except ImageError:
            black = torch.zeros(3, 32, 32, dtype=torch.uint8)  # (3, H, W)
            return self.images.transform(black), DAMAGED, index
