"""Loaders of batches; what they give depends on the seed and the sampler, not on the number of
workers.
"""
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.base import Batch, Draw, ImageList
from datasets.cache import ImageCache
from datasets.images import ImageDataset, collate
from datasets.samplers import BatchSampler
from datasets.transforms import Normalise
from datasets.workers import one_sentence, start_worker


@dataclass
class _Draws:
    """A batch sampler as the loader wants it, giving Draws."""

    sampler: BatchSampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.sampler.draws()


class Loader(DataLoader):
    """A DataLoader of Batch whose images are uint8; `batches` normalises them on the device."""

    def __init__(self, dataset: Dataset, *, normalise: Normalise | None = None,
                 collate_fn: Callable = collate, seed: int = 0, **kwargs):
        worker = partial(start_worker, os.getpid())
        # without a generator of its own every iteration would draw from the global stream
        generator = torch.Generator().manual_seed(seed)
        super().__init__(dataset, collate_fn=collate_fn, worker_init_fn=worker,
                         generator=generator, **kwargs)
        self.normalise = normalise

    def over(self, dataset: Dataset) -> "Loader":
        """A loader like this one, of all of `dataset` in order."""
        return self._like(dataset, batch_size=self.batch_size, num_workers=self.num_workers)

    def of_draws(self, order: list[list[Draw]]) -> "Loader":
        """A loader of these batches of the same images."""
        return self._like(self.dataset, batch_sampler=order, num_workers=self.num_workers)

    def drawn_by(self, sampler: BatchSampler, seed: int) -> "Loader":
        """A loader of the sampler's batches of the same images, in the main process."""
        return self._like(replace(self.dataset, seed=seed), batch_sampler=_Draws(sampler))

    def _like(self, dataset: Dataset, **kwargs) -> "Loader":
        return Loader(dataset, normalise=self.normalise, collate_fn=self.collate_fn,
                      pin_memory=self.pin_memory, **kwargs)


def make_loader(images: ImageList, transform: Callable[[Tensor], Tensor],
                batch_sampler: BatchSampler | None = None, batch_size: int = 128, workers: int = 0,
                seed: int = 0, device: torch.device | str | None = None,
                cache: ImageCache | None = None) -> Loader:
    """A loader of Batch: of the sampler's batches, or without one of all images in order,
    batch_size at a time.

    Memory is pinned when `device` is a CUDA device. `cache` holds the decoded
    images, if given. Iterate by `batches`.
    """
    on_gpu = torch.device(device or "cpu").type == "cuda"
    dataset = ImageDataset(images, transform, seed=seed, cache=cache)
    return Loader(dataset, **order_of(batch_sampler, batch_size),
                  num_workers=workers, persistent_workers=workers > 0,
                  pin_memory=on_gpu, seed=seed,
                  normalise=getattr(transform, "normalise", None))


def order_of(batch_sampler: BatchSampler | None, batch_size: int) -> dict:
    """The arguments of a DataLoader for the sampler's batches, or for all rows in order."""
    if batch_sampler is None:
        return {"batch_size": batch_size}
    return {"batch_sampler": _Draws(batch_sampler)}


def batches(loader: DataLoader, device: torch.device | str | None = None) -> Iterator[Batch]:
    """The batches of a loader, normalised, on `device` if one is given.

    The images cross to the device as bytes, a quarter of the floats that they become there. The
    sampler's state moves with the batches given here, so that one saved after a step resumes with
    the next. Raises RunError, one sentence, when a worker fails.
    """
    sampler = None
    if isinstance(loader.batch_sampler, _Draws):
        sampler = loader.batch_sampler.sampler
        sampler.follows_consumer = True
    normalise = getattr(loader, "normalise", None)
    try:
        with one_sentence():
            for batch in loader:
                if sampler:
                    sampler.advance()
                if device is not None:
                    batch = Batch(*(part.to(device, non_blocking=True) for part in batch))
                yield batch._replace(image=normalise(batch.image)) if normalise else batch
    finally:
        if sampler:
            sampler.follows_consumer = False
