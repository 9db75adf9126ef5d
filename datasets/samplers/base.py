"""What every batch sampler has: a fixed length, a random stream of its own, and a place to
resume from. SAMPLERS in `__init__.py` has them by name.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.base import Draw, mixed_seed
from utilities.errors import UsageError
from utilities.text import counted

# Number of the random stream that orders the rows of a batch, beside that of the plan.
SHUFFLE = 1


@dataclass(eq=False)
class BatchSampler:
    """Batches of bs rows, of labels (N,); epoch n is a function of (seed, n) alone, and a state is the place reached:
    epoch, position. The rows of a batch come in random order, so that their place says nothing of
    the class. epoch_steps: batches of an epoch; 0: as many as the images fill.

    Iterating continues where the sampler stands and moves it on with every batch it gives, into the
    next epoch at the end. A loader's workers fetch ahead, so `loader.batches` moves it itself, by
    the batches that have been used. With `world` processes each gets its share of every batch, by
    its `rank`; in the order of ranks the shares make up the batch of one process. Raises UsageError
    for a bs that the images, classes or processes do not allow.
    """

    labels: Sequence[int]
    bs: int
    samples_per_class: int = 1
    seed: int = 0
    rank: int = 0
    world: int = 1
    epoch_steps: int = 0

    # what the user should see once
    notice = None
    # whether it chooses by the images' embeddings, which `update` brings
    needs_storage = False
    follows_consumer = False
    epoch = 0
    position = 0

    def __post_init__(self):
        self.labels = torch.as_tensor(self.labels)  # (N,)
        if not 0 < self.bs <= len(self.labels):
            images = counted(len(self.labels), "image")
            raise UsageError(f"--bs {self.bs}: the training split has {images}; {self.advice()}.")
        if self.bs % self.world:
            processes = counted(self.world, "process")
            raise UsageError(f"--bs {self.bs} cannot be shared by {processes}; {self.advice()}.")

    def most(self) -> int:
        """Images that a batch can hold."""
        return len(self.labels)

    def unit(self) -> int:
        """A batch holds a multiple of so many images."""
        return self.world

    def advice(self) -> str:
        """What to pass in the place of a batch size that does not fit: the closest smaller one that does."""
        unit = self.unit()
        room = min(self.most(), max(self.bs, unit))
        size = room // unit * unit
        if size:
            return f"pass --bs {size}"
        return f"a batch takes {unit} or more here, so train on more images or lower what it is made of"

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs)."""
        raise NotImplementedError

    def generator(self, *numbers: int) -> torch.Generator:
        """The random stream of an epoch, or of these numbers."""
        return torch.Generator().manual_seed(mixed_seed(self.seed, *numbers))

    def shuffled_plan(self, epoch: int) -> Tensor:
        """The plan of an epoch, the rows of each batch in random order, (batches, bs)."""
        plan = self.plan(epoch)
        generator = self.generator(epoch, SHUFFLE)
        order = torch.rand(plan.shape, generator=generator).argsort(1)  # (batches, bs)
        return plan.gather(1, order)

    def __len__(self) -> int:
        return self.epoch_steps or len(self.labels) // self.bs

    def __iter__(self) -> Iterator[list[int]]:
        for draws in self.draws():
            yield [draw.index for draw in draws]

    def draws(self) -> Iterator[list[Draw]]:
        """This process's share of each batch to the end of the epoch, from where the sampler
        stands.
        """
        epoch = self.epoch
        plan = self.shuffled_plan(epoch).tolist()
        share = self.bs // self.world
        slots = range(self.rank * share, (self.rank + 1) * share)
        for position in range(self.position, len(self)):
            if not self.follows_consumer:
                self.advance()
            rows = plan[position]
            yield [Draw(rows[slot], epoch, position * self.bs + slot) for slot in slots]

    def update(self, embedding: Tensor, index: Tensor) -> None:
        """Receive a training batch: embedding (B, D) of the images `index` (B,). Most samplers
        ignore it.
        """

    def advance(self) -> None:
        """One batch further."""
        self.position += 1
        if self.position == len(self):
            self.epoch += 1
            self.position = 0

    def state_dict(self) -> dict:
        """Everything that the next batches follow from."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state_dict` was taken."""
        self.seed = state["seed"]
        self.epoch = state["epoch"]
        self.position = state["position"]
