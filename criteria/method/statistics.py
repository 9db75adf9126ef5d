"""The pairs of a batch, computed once a step for all who ask, and the statistics of them that the policy sees."""
from typing import NamedTuple

import torch
from torch import Tensor

from utilities.pairwise import average_precision, negative_mask, positive_mask, similarity, unit


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
        return self._replace(rows=rows, similarity=similarity(rows))


def pairs_of(z: Tensor, label: Tensor, anchors: int | None = None) -> Pairs:
    """The pairs of embeddings z (N, D) with labels (N,).

    With `anchors` A, the rows after the first A are only compared with, as those of a cross-batch memory.
    """
    rows = unit(z.detach())
    return Pairs(
        rows,
        similarity(rows[:anchors], rows),
        positive_mask(label, anchors),
        negative_mask(label, anchors),
    )


def batch_statistics(pairs: Pairs) -> Tensor:
    """Four numbers of the whole batch, (1, 4).

    Mean AP, mean positive similarity, mean negative similarity, length of the mean embedding.
    """
    ap = average_precision(pairs.similarity, pairs.positive)  # (B,)
    numbers = [
        ap.mean(),
        masked_mean(pairs.similarity, pairs.positive),
        masked_mean(pairs.similarity, pairs.negative),
        pairs.rows.mean(0).norm(),
    ]
    return torch.stack(numbers)[None]  # (1, 4)


def anchor_statistics(pairs: Pairs) -> Tensor:
    """Eight numbers of each anchor, standardised over the batch, (B, 8).

    Mean, minimum and maximum positive similarity; mean and maximum negative similarity; hardest negative minus hardest
    positive; AP; share of negatives above the hardest positive.
    """
    s = pairs.similarity
    positives = s.masked_fill(~pairs.positive, torch.inf)  # (B, B)
    easiest = s.masked_fill(~pairs.positive, -torch.inf).amax(-1).nan_to_num(neginf=0.0)  # (B,)
    hardest = positives.amin(-1).nan_to_num(posinf=0.0)
    hardest_negative = s.masked_fill(~pairs.negative, -torch.inf).amax(-1).nan_to_num(neginf=0.0)
    is_above = (s > hardest[:, None]).to(s.dtype)  # (B, B)
    columns = [
        masked_mean(s, pairs.positive, -1),
        hardest,
        easiest,
        masked_mean(s, pairs.negative, -1),
        hardest_negative,
        hardest_negative - hardest,
        average_precision(s, pairs.positive),
        masked_mean(is_above, pairs.negative, -1),
    ]
    rows = torch.stack(columns, -1)  # (B, 8)
    # of a single row the deviation is zero, and not undefined
    deviation = rows.std(0, correction=min(1, len(rows) - 1))
    return (rows - rows.mean(0)) / deviation.clamp(min=1e-6)


def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of x over the entries where mask is true, along `dim` or over all; zero over none."""
    dims = tuple(range(x.ndim)) if dim is None else dim
    return (x * mask).sum(dims) / mask.sum(dims).clamp(min=1)
