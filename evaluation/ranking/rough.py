"""Inner products in bfloat16 with a proven bound on their error.

On a CPU that multiplies bfloat16 they take a fifth to a half of the time of float32 products.
They decide most comparisons of a ranking; exact similarities decide the others.
"""
from typing import NamedTuple

import torch
from torch import Tensor

# the processor takes smaller numbers for zero
TINY = torch.finfo(torch.float32).tiny


class Rough(NamedTuple):
    """Rows (B, D) in bfloat16, the lengths (B,) of what rounding took from them, and the lengths
    (B,) that they had."""

    rows: Tensor
    lost: Tensor
    length: Tensor


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU with instructions for products in bfloat16."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and supported()


def rough(rows: Tensor) -> Rough:
    """The rows (B, D) float32 in bfloat16."""
    half = rows.bfloat16()
    lost = (rows - half.float()).norm(dim=1)
    return Rough(half, lost, rows.norm(dim=1))


def rough_tolerance(query: Rough, gallery: Rough, tolerance: Tensor) -> Tensor:
    """The error of the float32 sum behind a rough product of each query row, (Q,).

    tolerance (Q,): that of a float32 product. With x' = x - dx in bfloat16,
    |x.y - x'.y'| = |dx.y + x'.dy| <= |dx| |y| + (|x| + |dx|) |dy|. The product itself is rounded
    once more, to bfloat16. Rounding keeps order: a product above a rounded level had a sum above
    the level.
    """
    longest = gallery.length.max()
    most_lost = gallery.lost.max()
    error = query.lost * longest + (query.length + query.lost) * most_lost  # (Q,)
    underflow = query.rows.shape[1] * TINY * (1 + longest + query.length)
    return tolerance + error + underflow
