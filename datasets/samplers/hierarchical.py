"""Batches of two super-classes, whose classes are harder to tell apart than any two."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.samplers.by_class import ByClass, in_turn
from utilities.errors import UsageError

# in a batch
SUPER_CLASSES = 2


@dataclass(eq=False)
class Hierarchical(ByClass):
    """Two super-classes a batch, bs / 2 / samples_per_class different classes of each,
    samples_per_class images each.

    So are LM-Metric's batches of Stanford Online Products (180 images, 4 of each class). Where its
    classes are odd in number, as there, the first super-class has one more.

    Super-classes meet in random pairs, all of them before one comes again (one is left over where
    their number is odd), so that a small super-class comes as often as a large one. The classes
    within each super-class come in random order, all before one comes again but for those left
    over, and so do the images of each class. A super-class with fewer classes than its half of a
    batch gives each of them as often as the others, as evenly as possible. super_labels: the super-
    class of each label.
    """

    super_labels: Sequence[int] | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.super_labels is None:
            raise UsageError("--data_sampler hierarchical needs super-classes, and this data set "
                             "has none; choose another sampler, or give a labels.csv with a "
                             "super_label column.")
        super_of = torch.as_tensor(self.super_labels)[self.classes]
        self.super_of = super_of.unique(return_inverse=True)[1]  # (C,)
        classes = torch.bincount(self.super_of)  # (G,)
        if len(classes) < SUPER_CLASSES:
            raise UsageError("--data_sampler hierarchical takes two super-classes a batch, and "
                             "the training split has one; choose another sampler.")
        if self.classes_per_batch < SUPER_CLASSES:
            raise UsageError(f"--bs {self.bs} holds images of one class with --samples_per_class "
                             f"{self.samples_per_class}, and --data_sampler hierarchical takes two "
                             "super-classes a batch; pass at least --bs "
                             f"{SUPER_CLASSES * self.samples_per_class}.")
        self.classes_per_super = -(-self.classes_per_batch // SUPER_CLASSES)
        few = int((classes < self.classes_per_super).sum())
        if few:
            notice = (f"{few} of {len(classes)} super-classes have fewer than the "
                      f"{self.classes_per_super} classes that --bs and --samples_per_class give "
                      "each in a batch; theirs repeat within a batch.")
            self.notice = f"{self.notice} {notice}" if self.notice else notice

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs)."""
        generator = self.generator(epoch)
        groups = int(self.super_of.max()) + 1
        group_of = in_turn(groups, SUPER_CLASSES, len(self), generator)  # (batches, 2)
        label = torch.empty(*group_of.shape, self.classes_per_super, dtype=torch.long)
        for group in range(groups):
            members = (self.super_of == group).nonzero()[:, 0]
            places = group_of == group
            drawn = in_turn(len(members), self.classes_per_super, int(places.sum()), generator)
            label[places] = members[drawn]
        # where the classes are odd in number the last one is left out
        label = label.flatten(1)[:, :self.classes_per_batch]
        return self.images(label.flatten(), self.samples_per_class, generator).view(-1, self.bs)
