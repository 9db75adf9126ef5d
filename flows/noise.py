"""Normal noise that is a function of where it stands, not of when it was drawn."""
import math

import torch
from torch import Tensor

# constants of splitmix64, as int64: its increment, and shift and factor of two rounds
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
ROUNDS = (
    (30, 0xBF58476D1CE4E5B9 - 2**64),
    (27, 0x94D049BB133111EB - 2**64),
)


def counter_noise(index: Tensor, dim: int, *, seed: int = 0, draw: Tensor | int = 0) -> Tensor:
    """Standard normal rows (N, dim) in float32; entry (i, d) depends on (seed, index_i, draw_i, d).

    A counter-based generator: the coordinates are absorbed one after the other by the splitmix64
    mixing function (Steele, Lea & Flood, OOPSLA 2014), two words of it become uniform numbers and
    Box-Muller makes these normal. So a row repeats from run to run, on every device, whatever else
    is in the batch. index (N,) int, draw (N,) or one.
    """
    row = torch.full_like(index, seed, dtype=torch.int64)  # (N,)
    for value in (0, index, draw):
        row = _absorb(row, value)
    word = torch.arange(2 * dim, device=index.device)
    bits = _absorb(row[:, None], word)  # (N, 2 dim)
    radius, angle = _uniform(bits).chunk(2, dim=1)  # (N, dim) each
    radius = (-2 * radius.log()).sqrt()  # (N, dim)
    return radius * (2 * math.pi * angle).cos()  # (N, dim)


def _absorb(state: Tensor, value: Tensor | int) -> Tensor:
    """A new state that depends on all bits of both: mix((state xor value) + golden) mod 2^64."""
    return _mix((state ^ value) + GOLDEN)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 on int64, whose products wrap around as intended."""
    for shift, factor in ROUNDS:
        x = (x ^ _shift_right(x, shift)) * factor
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, by: int) -> Tensor:
    """Logical, not arithmetic: zeros come in, not copies of the sign."""
    kept = (1 << (64 - by)) - 1
    return (x >> by) & kept


def _uniform(bits: Tensor) -> Tensor:
    """Midpoints of 2^23 intervals of (0, 1): exact in float32, and never 0 or 1."""
    return (_shift_right(bits, 41).float() + 0.5) * 2.0**-23
