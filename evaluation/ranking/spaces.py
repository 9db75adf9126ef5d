"""Rows whose inner products rank by cosine or by Euclidean distance."""
import torch
from torch import Tensor

from evaluation.ranking.exact import SHORT, row_blocks
from utilities.pairwise import unit


def searched(embeddings: Tensor, gallery: Tensor | None, cosine: bool) -> tuple[Tensor, Tensor]:
    """Query rows and gallery rows whose inner product ranks as asked.

    They are the same tensor where gallery is None. By cosine, rows of unit length stay as they are.
    """
    rows = embeddings.float()
    other = rows if gallery is None else gallery.float()
    if not cosine:
        return euclidean(rows, other)
    unit_rows = rows if is_unit(rows) else unit(rows)
    if other is rows:
        return unit_rows, unit_rows
    return unit_rows, other if is_unit(other) else unit(other)


def is_unit(rows: Tensor) -> bool:
    """Whether all rows have length one, but for rounding."""
    error = rows.float().norm(dim=1) - 1
    return bool((error.abs() <= 1e-6).all())


def euclidean(query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (Q, D + 2), (N, D + 2) whose inner product ranks by Euclidean distance.

    The product is q.g - |g|^2 / 2. The half square fills two float32 columns, so that none of it is
    lost. Both are scaled by a power of two near the longest row.
    """
    scale = 2.0 ** gallery.norm(dim=1).max().clamp(min=SHORT).log2().round()
    blocks = row_blocks(gallery, len(gallery), gallery.shape[1])
    square = [rows.double().square().sum(1) for _, rows in blocks]
    half = torch.cat(square) / (2 * scale)  # (N,) float64
    high = half.float()
    low = (half - high.double()).float()
    query = torch.cat([query, scale.expand(len(query), 2)], 1)
    gallery = torch.cat([gallery, -high[:, None], -low[:, None]], 1)
    return query, gallery  # (Q, D + 2), (N, D + 2)
