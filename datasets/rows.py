"""Rows of numbers, such as features, in place of images."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.base import Batch, Draw, ImageList, mixed_seed
from datasets.loader import Loader, order_of
from datasets.samplers import BatchSampler


@dataclass(eq=False)
class RowDataset(Dataset):
    """Batches of rows that stand for images: views (V, N, F). A Draw takes a random one of V views.

    A file that is mapped into memory may be larger than it: only the rows of a batch are read.
    rows: which of the N each image has; None: they are in the images' order.
    """

    views: np.ndarray
    images: ImageList
    seed: int = 0
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitems__(self, which: Sequence[int | Draw]) -> Batch:
        index = [draw.index if isinstance(draw, Draw) else int(draw) for draw in which]
        place = index if self.rows is None else self.rows[index]
        row = self.views[[self._view(draw) for draw in which], place]  # (B, F)
        row = row.astype(np.float32, copy=False)
        label = [self.images.labels[i] for i in index]
        return Batch(torch.from_numpy(row), torch.tensor(label), torch.tensor(index))

    def _view(self, draw: int | Draw) -> int:
        if len(self.views) == 1:
            return 0
        return mixed_seed(self.seed, *draw) % len(self.views)


def row_loader(views: np.ndarray, images: ImageList, batch_sampler: BatchSampler | None = None,
               batch_size: int = 128, seed: int = 0, rows: np.ndarray | None = None) -> Loader:
    """A loader of Batch whose images are rows (B, F): of the sampler's batches, or of all in order.

    It reads in the main process, since a batch is one copy. rows: see RowDataset.
    """
    dataset = RowDataset(views, images, seed, rows)
    return Loader(dataset, **order_of(batch_sampler, batch_size), collate_fn=lambda batch: batch)


def file_loader(images: ImageList, transform: object = None,
                batch_sampler: BatchSampler | None = None, batch_size: int = 128, seed: int = 0,
                **_) -> Loader:
    """What takes the place of `make_loader` where the images are rows of a file."""
    paths = images.paths
    return row_loader(paths.file.values[None], images, batch_sampler, batch_size, seed, paths.rows)
