"""The pairs of a batch, computed once a step for all who ask."""
from typing import NamedTuple

from torch import Tensor

from utilities.pairwise import pair_masks, similarity, unit


class Pairs(NamedTuple):
    """All pairs (i, j) of A anchors and N rows; without references both are the batch's B images.

    rows (N, D): unit rows, detached. similarity (A, N): their dot products.
    positive, negative (A, N): which pairs are of one class (an image and itself is none), which of two.
    """

    rows: Tensor
    similarity: Tensor
    positive: Tensor
    negative: Tensor

    def with_rows(self, z: Tensor) -> "Pairs":
        """The same images with other embeddings z (B, D)."""
        rows = unit(z.detach())
        return self._replace(rows=rows, similarity=rows @ rows.T)


def pairs_of(z: Tensor, label: Tensor, anchors: int | None = None) -> Pairs:
    """The pairs of embeddings z (N, D) with labels (N,).

    With `anchors` A, the rows after the first A are only compared with, as those of a cross-batch memory.
    """
    rows = unit(z.detach())
    return Pairs(rows, similarity(rows[:anchors], rows), *pair_masks(label, anchors))
