"""What the memory learns to decode instead of the own context: TARGETS by the names of `--memory_target`."""
from collections.abc import Callable

import torch
from torch import Tensor

from criteria.method.xbm import CrossBatchMemory
from utilities.errors import UsageError
from utilities.pairwise import positive_mask, unit
from utilities.registry import known_name

NEAREST = 8  # neighbours in the cross-batch memory
Rows = Callable[[Tensor, Tensor, Tensor, CrossBatchMemory | None], Tensor]


def mean_of_positives(u: Tensor, label: Tensor, index: Tensor, xbm: CrossBatchMemory | None) -> Tensor:
    """Mean of the other images of the class in the batch; an image without one stands for itself. (B, D)."""
    positive = positive_mask(label)  # (B, B)
    alone = ~positive.any(-1)  # (B,)
    member = (positive | alone.diag()).to(u.dtype)  # (B, B)
    return member @ u / member.sum(-1, keepdim=True)


def mean_of_neighbours(u: Tensor, label: Tensor, index: Tensor, xbm: CrossBatchMemory | None) -> Tensor:
    """Mean of the nearest rows of a cross-batch memory; while it is empty an image stands for itself. (B, D)."""
    past, _ = xbm.references(index)  # (M, D)
    past = past.to(u.dtype)
    if not len(past):
        return u
    nearest = (u @ past.T).topk(min(NEAREST, len(past))).indices  # (B, NEAREST)
    return past[nearest].mean(1)


TARGETS: dict[str, Rows] = {
    "positives": mean_of_positives,
    "neighbours": mean_of_neighbours,
}


class MemoryTarget:
    """The logits t_i that the memory learns, of other images' embeddings:

        t_i = sqrt(D) unit(mean_j u_j)

    j are its positives in the batch, or its nearest neighbours in the cross-batch memory. sqrt(D) gives the entries a
    variance near 1, so that c_hat = sigmoid(t) differs between images.
    """

    def __init__(self, name: str, xbm: CrossBatchMemory | None = None):
        known_name(name, TARGETS, "target", "--memory_target")
        if name == "neighbours" and xbm is None:
            raise UsageError("--memory_target neighbours looks for them in the cross-batch memory: pass --xbm_size, "
                             "such as 1000.")
        self.rows = TARGETS[name]
        self.xbm = xbm

    @torch.no_grad()
    def __call__(self, z: Tensor, label: Tensor, index: Tensor) -> Tensor:
        """Embeddings z (B, D), labels and indices (B,) -> logits to learn (B, D)."""
        rows = self.rows(unit(z), label, index, self.xbm)  # (B, D)
        return rows.shape[1] ** 0.5 * unit(rows)
