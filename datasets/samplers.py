"""Which images make a batch: samplers with a fixed length, a random stream of their own, and a place to resume from."""
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from datasets.base import Draw, mixed_seed, ranked_within_class
from utilities.errors import UsageError
from utilities.registry import lookup


class BatchSampler:
    """Batches of rows; epoch n is a function of (seed, n) alone, and a state is the place reached: epoch, position.

    Iterating continues where the sampler stands and moves it on with every batch it gives, into the next epoch at the
    end. A loader's workers fetch ahead, so `loader.batches` moves it itself, by the batches that have been used.
    With `world` processes each gets its share of every batch, `rank` tells which; in rank order the shares make up
    the batch of one process.
    """

    notice: str | None = None   # a sentence that the user should see once

    def __init__(self, labels: Sequence[int], bs: int, samples_per_class: int = 1, seed: int = 0, rank: int = 0,
                 world: int = 1):
        self.labels = torch.as_tensor(labels)                                      # (N,)
        self.bs, self.samples_per_class, self.seed = bs, samples_per_class, seed
        self.rank, self.world = rank, world
        self.epoch = self.position = 0
        self.follows_consumer = False
        if not 0 < bs <= len(self.labels):
            raise UsageError(f"--bs {bs}: the training split has {len(self.labels)} images; choose a batch size from 1 "
                             "to that.")
        if bs % world:
            raise UsageError(f"--bs {bs} cannot be shared by {world} processes; choose a multiple of {world}.")

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs)."""
        raise NotImplementedError

    def generator(self, epoch: int) -> torch.Generator:
        """The random stream of an epoch."""
        return torch.Generator().manual_seed(mixed_seed(self.seed, epoch))

    def __len__(self) -> int:
        return len(self.labels) // self.bs

    def __iter__(self) -> Iterator[list[int]]:
        for draws in self.draws():
            yield [draw.index for draw in draws]

    def draws(self) -> Iterator[list[Draw]]:
        """This process's share of each batch to the end of the epoch, from where the sampler stands."""
        epoch, rows, share = self.epoch, self.plan(self.epoch).tolist(), self.bs // self.world
        for position in range(self.position, len(self)):
            if not self.follows_consumer:
                self.advance()
            slots = range(self.rank * share, (self.rank + 1) * share)
            yield [Draw(rows[position][slot], epoch, position * self.bs + slot) for slot in slots]

    def advance(self) -> None:
        """One batch further."""
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Everything that the next batches follow from."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state_dict` was taken."""
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]


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


SAMPLERS = {"class_random": ClassRandom, "random": FullRandom}


def select(name: str, labels: Sequence[int], bs: int, samples_per_class: int, seed: int = 0, rank: int = 0,
           world: int = 1) -> BatchSampler:
    """The batch sampler of this name."""
    sampler = lookup(SAMPLERS, name, kind="batch sampler", flag="--data_sampler")
    return sampler(labels, bs=bs, samples_per_class=samples_per_class, seed=seed, rank=rank, world=world)
