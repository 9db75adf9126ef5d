"""Loaders of batches; what they give depends on the seed and the sampler, not on the number of workers."""
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from datasets.base import Batch, Draw, ImageList
from datasets.images import ImageDataset, collate
from datasets.samplers import BatchSampler
from utilities.errors import RunError


class _Draws(Sampler):
    """A batch sampler as the loader wants it, giving Draws."""

    def __init__(self, sampler: BatchSampler):
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.sampler.draws()


def make_loader(images: ImageList, transform: Callable[[Tensor], Tensor], batch_sampler: BatchSampler | None = None,
                batch_size: int = 128, workers: int = 0, seed: int = 0, pin_memory: bool = False,
                device: torch.device | str | None = None) -> DataLoader:
    """A loader of Batch: of the sampler's batches, or without one of all images in order, batch_size at a time.

    Memory is pinned when asked for, and when `device` is a CUDA device. Iterate by `batches`.
    """
    pin = pin_memory or (device is not None and torch.device(device).type == "cuda")
    order = {"batch_size": batch_size} if batch_sampler is None else {"batch_sampler": _Draws(batch_sampler)}
    return DataLoader(
        ImageDataset(images, transform, seed=seed), **order, num_workers=workers, collate_fn=collate, pin_memory=pin,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed))   # else every iteration would draw from the global stream


def batches(loader: DataLoader, device: torch.device | str | None = None) -> Iterator[Batch]:
    """The batches of a loader, on `device` if one is given; a RunError in one sentence when a worker fails.

    The sampler's state moves with the batches given here, so that one saved after a step resumes with the next.
    """
    sampler = getattr(loader.batch_sampler, "sampler", None)
    sampler = sampler if isinstance(sampler, BatchSampler) else None
    if sampler:
        sampler.follows_consumer = True
    try:
        for batch in loader:
            if sampler:
                sampler.advance()
            yield batch if device is None else Batch(*(part.to(device, non_blocking=True) for part in batch))
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError("A worker process that loads images ended by itself, mostly for want of memory; run again with "
                       "fewer workers (--kernels 0 loads in the main process).") from None
    finally:
        if sampler:
            sampler.follows_consumer = False
