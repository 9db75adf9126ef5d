"""Noise that depends on where it stands: against big integers in pure Python, and against the
normal distribution."""
import math

import torch

from flows.noise import GOLDEN, _mix, counter_noise

MASK = 2**64 - 1


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def absorb(state, value):
    return mix(((state ^ (value & MASK)) + 0x9E3779B97F4A7C15) & MASK)


def naive_noise(seed, index, draw, dim):
    row = absorb(absorb(absorb(seed, 0), index), draw)
    uniform = [((absorb(row, word) >> 41) + 0.5) / 2**23 for word in range(2 * dim)]
    return [
        math.sqrt(-2 * math.log(uniform[d])) * math.cos(2 * math.pi * uniform[dim + d])
        for d in range(dim)
    ]


def test_mixing_is_splitmix64():
    """The first outputs of the published generator from state 0."""
    state, outputs = torch.zeros(1, dtype=torch.int64), []
    for _ in range(2):
        state = state + GOLDEN
        outputs.append(int(_mix(state)) & MASK)
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_noise_is_the_naive_one():
    index = torch.tensor([0, 1, 2, 60_501, 2**31, -1])
    expected = torch.tensor([naive_noise(3, int(i), 5, 7) for i in index])
    torch.testing.assert_close(
        counter_noise(index, 7, seed=3, draw=5), expected, rtol=1e-4, atol=1e-4
    )
    assert counter_noise(index, 7).dtype == torch.float32


def test_a_row_depends_on_its_index_alone_and_repeats():
    index = torch.tensor([4, 9, 100, 7])
    rows = counter_noise(index, 16)
    torch.manual_seed(99)
    assert torch.equal(rows, counter_noise(index, 16))
    assert torch.equal(rows[2:3], counter_noise(index[2:3], 16))
    assert torch.equal(rows.flip(0), counter_noise(index.flip(0), 16))
    assert torch.equal(rows, counter_noise(index.int(), 16))
    assert counter_noise(index[:0], 16).shape == (0, 16)


def test_noise_is_standard_normal():
    noise = counter_noise(torch.arange(20_000), 16).double()
    n = noise.numel()
    assert abs(noise.mean()) < 5 / n**0.5
    assert abs(noise.square().mean() - 1) < 5 * (2 / n) ** 0.5
    assert abs(noise.pow(3).mean()) < 5 * (15 / n) ** 0.5
    assert abs(noise.pow(4).mean() - 3) < 5 * (96 / n) ** 0.5
    ordered = noise.flatten().sort().values
    normal = 0.5 * (1 + torch.erf(ordered / 2**0.5))
    steps = torch.arange(1, n + 1, dtype=torch.float64) / n
    # Kolmogorov-Smirnov, p about 7e-4
    assert (normal - steps).abs().max() < 2 / n**0.5
    # no image, no dimension stands out
    for axis in (0, 1):
        size = noise.shape[axis]
        assert noise.mean(axis).abs().max() < 5.5 / size**0.5
        assert (noise.square().mean(axis) - 1).abs().max() < (5.5 if axis == 0 else 12) * (
            2 / size
        ) ** 0.5


def test_neighbours_are_uncorrelated():
    index, noise = torch.arange(20_000), counter_noise(torch.arange(20_000), 16).double()
    partners = {
        "next index": noise.roll(1, 0),
        "next dimension": noise.roll(1, 1),
        "other half": noise.roll(8, 1),
        "draw": counter_noise(index, 16, draw=1).double(),
        "seed": counter_noise(index, 16, seed=1).double(),
        "power of two": counter_noise(index + 2**20, 16).double(),
        "index and draw exchanged": counter_noise(torch.zeros_like(index), 16, draw=index).double(),
    }
    for name, other in partners.items():
        assert abs((noise * other).mean()) < 5 / noise.numel() ** 0.5, name
        assert abs((noise.square() * other.square()).mean() - 1) < 5 * (8 / noise.numel()) ** 0.5, (
            name
        )
