"""Batches drawn at random: of some images of each of several classes, or of any images."""
from dataclasses import dataclass
from math import lcm

import torch
from torch import Tensor

from datasets.base import ranked_within_class
from datasets.samplers.base import BatchSampler
from utilities.errors import UsageError
from utilities.text import counted


class FullRandom(BatchSampler):
    """All images in random order, again and again where an epoch has more steps than they fill,
    without the incomplete last batch; samples_per_class is not used.
    """

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs)."""
        generator = self.generator(epoch)
        images = len(self) * self.bs
        passes = -(-images // len(self.labels))
        orders = [torch.randperm(len(self.labels), generator=generator) for _ in range(passes)]
        return torch.cat(orders)[:images].view(-1, self.bs)


@dataclass(eq=False)
class ByClass(BatchSampler):
    """The base of samplers that give samples_per_class images of each class drawn."""

    samples_per_class: int = 2

    # whether the classes of a batch differ
    has_different_classes = False

    def most(self) -> int:
        """Images that a batch can hold."""
        images = len(self.labels)
        if not self.has_different_classes:
            return images
        return min(images, len(self.labels.unique()) * self.samples_per_class)

    def unit(self) -> int:
        """A batch holds a multiple of so many images."""
        return lcm(self.world, max(1, self.samples_per_class))

    def __post_init__(self):
        super().__post_init__()
        images = self.samples_per_class
        if images < 1 or self.bs % images:
            raise UsageError(f"--bs {self.bs} is not a multiple of --samples_per_class {images}; "
                             f"{self.advice()}, or change --samples_per_class.")
        self.classes_per_batch = self.bs // images
        # `classes` are the numbers of those with images, which are numbered anew
        self.classes, self.labels = self.labels.unique(return_inverse=True)  # (C,), (N,)
        self.count = torch.bincount(self.labels)  # (C,)
        if self.has_different_classes and len(self.count) < self.classes_per_batch:
            raise UsageError(f"--bs {self.bs} with --samples_per_class {images} needs "
                             f"{self.classes_per_batch} classes a batch, but there are "
                             f"{len(self.count)} to train on; {self.advice()}.")
        # where each class begins in the rows sorted by class
        self.start = self.count.cumsum(0) - self.count  # (C,)
        few = int((self.count < images).sum())
        if few:
            self.notice = (f"{few} of {counted(len(self.count), 'training class')} have fewer than "
                           f"--samples_per_class {images} images; theirs repeat within a batch.")

    def images(self, label: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """`number` images for each entry of `label` (S,), (S, number).

        Those of a class come in random order, all of them before one comes again.
        """
        order, _, _ = ranked_within_class(self.labels, generator)  # (N,)
        place = times_seen(label)[:, None] * number + torch.arange(number)  # (S, number)
        place = place % self.count[label][:, None]
        return order[self.start[label][:, None] + place]


class ClassRandom(ByClass):
    """bs / samples_per_class different classes a batch, samples_per_class images of each.

    The classes come in random order, all of them before one comes again (but for those left over
    where the classes do not divide into batches); so do the images of each class. The base
    framework draws both anew for every batch.
    """

    has_different_classes = True

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs)."""
        generator = self.generator(epoch)
        # (batches, P)
        label = in_turn(len(self.count), self.classes_per_batch, len(self), generator)
        return self.images(label.flatten(), self.samples_per_class, generator).view(-1, self.bs)


def in_turn(number: int, per_batch: int, batches: int, generator: torch.Generator) -> Tensor:
    """`per_batch` of the numbers below `number` for every batch, (batches, per_batch).

    They come in random order, all of them before one comes again, but for those left over where
    they do not divide into batches. Within a batch they differ, or repeat as evenly as possible
    where there are too few.
    """
    orders_a_batch = -(-per_batch // number)
    batches_an_order = max(1, number // per_batch)
    groups = -(-batches // batches_an_order)
    order = torch.rand(groups, orders_a_batch, number, generator=generator).argsort(dim=-1)
    order = order.flatten(1)[:, :batches_an_order * per_batch]
    return order.reshape(-1, per_batch)[:batches]


def times_seen(label: Tensor) -> Tensor:
    """For each entry, how many earlier ones are equal to it, (S,)."""
    _, rank, _ = ranked_within_class(label)
    return rank
