"""Inner products in bfloat16, with a proven bound, for processors that multiply it in hardware: two to three times as
fast as in float32, they settle most comparisons, and leave the others to float32 and float64.
"""
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.ranking.exact import SCRATCH

TINY = torch.finfo(torch.float32).tiny  # the processor takes lesser numbers for zero


class Rough(NamedTuple):
    """Rows (B, D) in bfloat16, the lengths (B,) of what rounding took from them, and the lengths (B,) they had."""

    rows: Tensor
    lost: Tensor
    length: Tensor


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster than in float32 here: a CPU with instructions for them."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and supported()


def rough(rows: Tensor) -> Rough:
    """The rows (B, D) float32 in bfloat16."""
    half = rows.bfloat16()
    return Rough(half, (rows - half.float()).norm(dim=1), rows.norm(dim=1))


def blur(query: Rough, gallery: Rough, stray: Tensor) -> Tensor:
    """How far the float32 sum behind the product of each query row with a gallery row may stray, (Q,), where that of
    the exact rows may by `stray` (Q,).

    With x' = x - dx what is multiplied, |x.y - x'.y'| = |dx.y + x'.dy| <= |dx| |y| + (|x| + |dx|) |dy|. The product
    itself is rounded once more, to bfloat16: see `rounded`.
    """
    longest, most_lost = gallery.length.max(), gallery.lost.max()
    error = query.lost * longest + (query.length + query.lost) * most_lost         # (Q,)
    return stray + error + query.rows.shape[1] * TINY * (1 + longest + query.length)


def rounded(level: Tensor) -> Tensor:
    """Levels to compare rough products with, in float32: rounding keeps order, so a product above the rounded level had
    a sum above the level, and one below it a sum below."""
    return level.bfloat16().float()


def products(query: Tensor, gallery: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """The float32 inner products of query row i[p] and gallery row j[p], (P,)."""
    step = max(1, SCRATCH // query.shape[1])
    return torch.cat([torch.linalg.vecdot(query[a], gallery[b]) for a, b in zip(i.split(step), j.split(step))])
