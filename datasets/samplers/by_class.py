"""Batches drawn at random: of some images of each of several classes, or of any images."""
from collections.abc import Sequence

import torch
from torch import Tensor

from datasets.base import ranked_within_class
from datasets.samplers.base import BatchSampler
from utilities.errors import UsageError


class FullRandom(BatchSampler):
    """Every epoch all images in random order, the incomplete last batch left out; samples_per_class is not used."""

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs)."""
        rows = torch.randperm(len(self.labels), generator=self.generator(epoch))
        return rows[:len(self) * self.bs].view(-1, self.bs)                        # (batches, bs)


class ClassRandom(BatchSampler):
    """bs / samples_per_class different classes a batch, samples_per_class images of each, grouped by class.

    The classes come in random order, all of them before one comes again (but for those left over where the classes do
    not divide into batches); so do the images of each class. The base framework draws both anew for every batch.
    """

    def __init__(self, labels: Sequence[int], bs: int, samples_per_class: int = 2, seed: int = 0, rank: int = 0,
                 world: int = 1):
        super().__init__(labels, bs=bs, samples_per_class=samples_per_class, seed=seed, rank=rank, world=world)
        if samples_per_class < 1 or bs % samples_per_class:
            raise UsageError(f"--bs {bs} is not a multiple of --samples_per_class {samples_per_class}; change one of "
                             "them.")
        self.labels = self.labels.unique(return_inverse=True)[1]   # whatever numbers they are, no class is empty
        self.count = torch.bincount(self.labels)                                   # (C,)
        if len(self.count) < bs // samples_per_class:
            raise UsageError(f"--bs {bs} with --samples_per_class {samples_per_class} needs {bs // samples_per_class} "
                             f"classes a batch, but there are {len(self.count)} to train on; lower --bs or raise "
                             "--samples_per_class.")
        few = int((self.count < samples_per_class).sum())
        if few:
            self.notice = (f"{few} of {len(self.count)} training classes have fewer than --samples_per_class "
                           f"{samples_per_class} images; theirs repeat within a batch.")

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs)."""
        generator = self.generator(epoch)
        label = self._classes(generator)                                           # (S,), S slots of K images
        order, _, count = ranked_within_class(self.labels, generator)
        start = count.cumsum(0) - count
        seen = _times_seen(label)[:, None] * self.samples_per_class + torch.arange(self.samples_per_class)    # (S, K)
        rows = order[start[label][:, None] + seen % count[label][:, None]]         # (S, K)
        return rows.view(-1, self.bs)                                              # (batches, bs)

    def _classes(self, generator: torch.Generator) -> Tensor:
        """The classes of all batches one after the other, different ones within each, (S,)."""
        classes, per_batch = len(self.count), self.bs // self.samples_per_class
        batches = classes // per_batch   # that one random order of the classes fills
        orders = torch.rand(-(-len(self) // batches), classes, generator=generator).argsort(dim=1)   # (rounds, C)
        return orders[:, :batches * per_batch].reshape(-1)[:len(self) * per_batch]


def _times_seen(label: Tensor) -> Tensor:
    """For each entry, how many earlier ones are equal to it, (S,)."""
    order = label.argsort(stable=True)
    count = torch.bincount(label)
    start = count.cumsum(0) - count
    seen = torch.empty_like(label)
    seen[order] = torch.arange(len(label)) - start[label[order]]
    return seen
