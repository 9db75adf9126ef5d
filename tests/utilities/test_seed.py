"""Random streams: what is drawn after a state was kept is drawn again, bit for bit."""
import random

import numpy as np
import pytest
import torch

from utilities import checkpoint
from utilities.errors import RunError
from utilities.seed import (
    RandomStream,
    TorchRandomness,
    preserved_randomness,
    random_state,
    seed_everything,
    seeded,
    set_random_state,
)

CPU = torch.device("cpu")


def draws():
    """Of every global generator; an odd number of normal ones, of which numpy keeps a half."""
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.normal()),
        int(np.random.randint(2**31)),
        torch.rand(3).tolist(),
        torch.randn(17).tolist(),
    ]


@pytest.mark.parametrize("seed", [0, 1, -1, 2**32, 2**63 - 1])
def test_a_seed_decides_all_that_is_drawn(seed):
    seed_everything(seed)
    first = draws()
    draws()
    seed_everything(seed)
    assert draws() == first
    seed_everything(seed - 1 if seed else 5)
    other = draws()
    assert not any(one == two for one, two in zip(first, other))


@pytest.mark.parametrize("before", range(4))
def test_a_kept_state_continues_bit_for_bit_through_a_checkpoint(tmp_path, before):
    seed_everything(3)
    for _ in range(before):
        # a half of a pair of normal numbers waits in python and in numpy
        draws()
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"network": {}, "options": {}, "random": random_state(CPU)})
    expected = [draws(), draws()]
    seed_everything(99)
    draws()
    set_random_state(checkpoint.load(path)["random"], CPU)
    assert [draws(), draws()] == expected


def test_keeping_a_state_draws_nothing():
    seed_everything(3)
    expected = draws()
    seed_everything(3)
    random_state(CPU)
    TorchRandomness.now(CPU)
    RandomStream(1).on(CPU)
    assert draws() == expected


def test_a_seeded_block_draws_from_its_seed_and_leaves_no_trace():
    seed_everything(3)
    expected = draws()
    seed_everything(3)
    with seeded(7):
        inside = torch.rand(4)
        with seeded(8):
            torch.rand(1)
        further = torch.rand(4)
    assert draws() == expected
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(inside, torch.rand(4, generator=generator))
    assert torch.equal(further, torch.rand(4, generator=generator))


@pytest.mark.parametrize("block", [preserved_randomness, lambda: seeded(1)])
def test_randomness_is_restored_after_an_error_too(block):
    state = torch.get_rng_state()
    with pytest.raises(KeyError), block():
        torch.rand(1)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_torchs_randomness_alone_is_restored():
    seed_everything(3)
    now = TorchRandomness.now(CPU)
    assert now.cuda is None
    before = torch.rand(2)
    python = random.random()
    now.restore(CPU)
    assert torch.equal(torch.rand(2), before)
    assert random.random() != python


# ---- streams of parts


def test_a_stream_is_a_generator_of_its_seed():
    generator = torch.Generator().manual_seed(5)
    stream = RandomStream(5)
    for _ in range(3):
        expected = torch.randn(4, generator=generator)
        assert torch.equal(torch.randn(4, generator=stream.on(CPU)), expected)


@pytest.mark.parametrize("drawn", [0, 1, 5])
@pytest.mark.parametrize("again", [1, 3])
def test_a_stream_continues_after_any_number_of_draws_and_saves(tmp_path, drawn, again):
    stream = RandomStream(5)
    for _ in range(drawn):
        torch.randn(3, generator=stream.on(CPU))
    path = tmp_path / "last.pt"
    other = stream
    for _ in range(again):
        # it is loaded and saved without a draw in between
        checkpoint.save(path, {"network": {}, "options": {}, "stream": other.state_dict()})
        other = RandomStream(0)
        other.load_state_dict(checkpoint.load(path)["stream"])
    expected = torch.randn(7, generator=stream.on(CPU))
    assert torch.equal(torch.randn(7, generator=other.on(CPU)), expected)
    assert other.seed == 5


def test_a_stream_that_has_drawn_takes_another_state():
    stream = RandomStream(5)
    torch.rand(2, generator=stream.on(CPU))
    stream.load_state_dict(RandomStream(6).state_dict())
    expected = torch.rand(2, generator=torch.Generator().manual_seed(6))
    assert torch.equal(torch.rand(2, generator=stream.on(CPU)), expected)


def test_a_state_that_is_kept_does_not_move_with_later_draws():
    stream = RandomStream(5)
    torch.rand(2, generator=stream.on(CPU))
    kept = stream.state_dict()["state"]
    before = kept.clone()
    torch.rand(2, generator=stream.on(CPU))
    assert torch.equal(kept, before)


@pytest.mark.parametrize("seed,state", [
    (5, torch.zeros(3, dtype=torch.uint8)),
    (5, torch.zeros(5056)),
    (5, torch.full((5056,), 255, dtype=torch.uint8)),
    ("five", torch.empty(0)),
    (None, torch.empty(0)),
    (2**80, torch.empty(0)),
])
def test_a_damaged_state_is_one_sentence(seed, state):
    stream = RandomStream()
    stream.load_state_dict({"seed": seed, "state": state})
    with pytest.raises(RunError) as caught:
        stream.on(CPU)
    assert "A state of random draws in the checkpoint is damaged (" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_kind_of_device_goes_on_with_other_numbers():
    drawn = []
    for offset in (1, 1, 2):
        stream = RandomStream()
        # what a generator of a GPU saves
        stream.load_state_dict({"seed": 5, "state": torch.tensor([1, offset]).view(torch.uint8), "device": "cuda"})
        drawn.append(torch.rand(3, generator=stream.on(CPU)))
        kept = RandomStream()
        kept.load_state_dict(stream.state_dict())
        assert torch.equal(torch.rand(3, generator=kept.on(CPU)), torch.rand(3, generator=stream.on(CPU)))
    fresh = torch.rand(3, generator=RandomStream(5).on(CPU))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], fresh)
