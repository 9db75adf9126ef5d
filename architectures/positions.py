"""Position embeddings of a vision transformer, for images of another size."""
import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

# The ends of their names; torchvision's is the second.
NAMES = ("pos_embed", "pos_embedding", "position_embeddings", "positional_embedding")
# Tokens before those of the image: none, a class token, one for distillation too, registers.
BEFORE = (0, 1, 2, 5)


def resized(name: str, value: Tensor, wanted: Tensor) -> Tensor:
    """Position embeddings (1, N, D) on the grid of `wanted`; any other tensor as it is.

    The grid is interpolated (bicubic), as each library does for its own models. What stands before
    the grid is kept, or left out where the network has nothing there.
    """
    if value.shape == wanted.shape or not is_position(name, value, wanted):
        return value
    before = tokens_before(value.shape[1])
    kept = tokens_before(wanted.shape[1])
    if None in (before, kept) or kept not in (0, before):
        return value
    side = math.isqrt(wanted.shape[1] - kept)
    grid = value[:, before:].float()  # (1, n^2, D)
    grid = on_grid(grid, side, name.endswith("pos_embedding"))  # (1, side^2, D)
    return torch.cat([value[:, :kept], grid.to(value.dtype)], 1)  # (1, N, D)


def is_position(name: str, value: Tensor, wanted: Tensor) -> bool:
    """Whether two tensors are position embeddings (1, N, D) of one width."""
    if not name.endswith(NAMES) or value.ndim != 3 or wanted.ndim != 3:
        return False
    alike = value.shape[::2] == wanted.shape[::2] and len(wanted) == 1
    return alike and value.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tokens_before(tokens: int) -> int | None:
    """How many of the tokens stand before a square grid; None where there is no such grid."""
    for before in BEFORE:
        grid = tokens - before
        if grid > 0 and math.isqrt(grid) ** 2 == grid:
            return before
    return None


def on_grid(tokens: Tensor, side: int, of_torchvision: bool) -> Tensor:
    """Tokens of a square grid (1, n^2, D) as tokens of another, (1, side^2, D).

    Torchvision puts the corners of both grids onto each other; timm lets both cover the same image.
    """
    n = math.isqrt(tokens.shape[1])
    square = tokens.mT.unflatten(-1, (n, n))  # (1, D, n, n)
    options = {"align_corners": of_torchvision, "antialias": not of_torchvision}
    square = interpolate(square, (side, side), mode="bicubic", **options)  # (1, D, side, side)
    return square.flatten(2).mT  # (1, side^2, D)
