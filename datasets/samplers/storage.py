"""The base of samplers that choose by embeddings: a storage of those of all training images, and
a plan made from it.
"""
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.samplers.by_class import ByClass
from utilities.pairwise import unit


@dataclass(eq=False)
class StorageSampler(ByClass):
    """A sampler that keeps an embedding of every training image, on `device`.

    The storage is filled before the first epoch and follows the training batches by `update`. The
    plan of an epoch is made at its start, from the storage as it then is; state_dict holds both, so
    that a resumed run has the same batches left.

    batchmatch_bigbs: images from which a batch is made.
    storage_no_update: keep the storage as filled.
    sampler_lowproj_dim: choose in a random projection of this many dimensions, drawn anew every
        epoch (Johnson and Lindenstrauss); none where it is not positive.
    mb_mom, mb_lr: see `update`.
    Memory: N D numbers, as many again with mb_mom >= 0, both also in a checkpoint.
    """

    device: torch.device | str = "cpu"
    batchmatch_bigbs: int = 512
    storage_no_update: bool = False
    sampler_lowproj_dim: int = -1
    mb_mom: float = -1.0
    mb_lr: float = 1.0

    needs_storage = True
    storage = None  # (N, D)
    # with mb_mom >= 0
    drift = None  # (N, D)
    # an epoch and its plan
    planned = None

    def fill(self, embedding: Tensor) -> None:
        """Set the storage to the embeddings (N, D) of all training images, in the data set's
        order.
        """
        self.storage = unit(embedding.to(self.device, torch.float32, copy=True))  # (N, D)
        self.drift = torch.zeros_like(self.storage) if self.mb_mom >= 0 else None

    def update(self, embedding: Tensor, index: Tensor) -> None:
        """Enter a training batch: embedding (B, D), brought to length one, of the images `index`
        (B,).

        Without momentum the entry s becomes the embedding e; with it, the drift of e is added (the
        base framework's formula, there for the whole storage at once):
            d = mb_mom d + (1 - mb_mom) (e - s),    s = e + mb_lr d
        Of an image that comes twice in a batch the last embedding counts.
        """
        if self.storage_no_update:
            return
        index = index.to(self.device)
        row = unit(embedding.detach().to(self.device, torch.float32))  # (B, D)
        same = index[:, None] == index  # (B, B)
        last = (same * torch.arange(len(index), device=self.device)).amax(1)
        row = row[last]
        if self.mb_mom >= 0:
            change = row - self.storage[index]
            drift = self.mb_mom * self.drift[index] + (1 - self.mb_mom) * change
            self.drift[index] = drift
            row = row + self.mb_lr * drift
        self.storage[index] = row

    def plan(self, epoch: int) -> Tensor:
        """The rows of all batches of an epoch, (batches, bs): made once, at its start."""
        if self.planned is None or self.planned[0] != epoch:
            if self.storage is None:
                raise RuntimeError("the storage is empty: call fill before the first batch")
            generator = self.generator(epoch)
            self.planned = epoch, self.choose(self._space(generator), generator)
        return self.planned[1]

    @abstractmethod
    def choose(self, space: Tensor, generator: torch.Generator) -> Tensor:
        """The rows of all batches, (batches, bs), chosen by the images' places in space (N, D)."""

    def _space(self, generator: torch.Generator) -> Tensor:
        """The storage, or a random projection of it."""
        dimensions = self.sampler_lowproj_dim
        if dimensions <= 0:
            return self.storage
        directions = torch.randn(self.storage.shape[1], dimensions, generator=generator)
        directions = directions / dimensions**0.5
        return self.storage @ directions.to(self.device)  # (N, sampler_lowproj_dim)

    def state_dict(self) -> dict:
        """Everything that the next batches follow from; tensors are the sampler's own, not
        copies.
        """
        rows = self.planned[1] if self.planned and self.planned[0] == self.epoch else None
        return super().state_dict() | {"storage": self.storage, "drift": self.drift, "rows": rows}

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state_dict` was taken."""
        super().load_state_dict(state)
        self.storage = self._own(state["storage"])
        self.drift = self._own(state["drift"])
        self.planned = None if state["rows"] is None else (self.epoch, state["rows"].cpu())

    def _own(self, tensor):
        """A copy on the device."""
        return None if tensor is None else tensor.to(self.device, copy=True)
