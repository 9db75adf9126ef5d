"""Rates as functions of the step, against torch's schedulers that step along."""
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.optimisation import Schedule

INITIAL = [1e-3, 3e-4, 0.01]


def rates_of(build, steps, every=1):
    """The rates that a scheduler of torch gives for each step, stepped after every so many."""
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in INITIAL]
    optimizer = torch.optim.SGD(groups)
    scheduler, found = build(optimizer), []
    for step in range(1, steps + 1):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return found


def rates(schedule, steps):
    return [[schedule.rate(initial, step) for initial in INITIAL] for step in range(1, steps + 1)]


@pytest.mark.parametrize("tau,gamma,epochs", [([26, 30], 0.3, 32), ([20, 40, 60, 80], 0.5, 100), ([3, 1, 3], 0.7, 5),
                                              ([1], 0.1, 3), ([9], 0.1, 3)])
@pytest.mark.parametrize("kind", ["step", "multistep"])
def test_steps_are_those_of_torch_by_epoch_bit_for_bit(kind, tau, gamma, epochs):
    schedule = Schedule(kind, 7, epochs, tau, gamma)
    assert rates(schedule, 7 * epochs) == rates_of(
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, tau, gamma), 7 * epochs, every=7)


def test_none_is_the_initial_rate():
    assert rates(Schedule("none", 3, 4, [1], 0.5), 12) == [INITIAL] * 12


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_cosine_is_that_of_torch_by_step(share):
    found = rates(Schedule("cosine", 5, 6, lr_min=share), 30)
    for group, initial in enumerate(INITIAL):
        expected = rates_of(lambda optimizer, initial=initial: torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, 30, share * initial), 30)
        assert [row[group] for row in found] == pytest.approx([row[group] for row in expected], rel=1e-9)


@given(st.sampled_from(["step", "multistep", "cosine", "none"]), st.integers(1, 40), st.integers(2, 9),
       st.floats(0.01, 1.9), st.integers(1, 400))
def test_a_warm_up_rises_linearly_and_then_changes_nothing_but_where_the_cosine_begins(kind, n, epochs, warmup, step):
    step = min(step, n * epochs)
    warmed = Schedule(kind, n, epochs, [2], 0.5, 0.1, warmup).rate(0.3, step)
    if step < n * warmup:
        assert warmed == pytest.approx(0.3 * step / (n * warmup) * (
            0.5 if kind in ("step", "multistep") and step > 2 * n else 1.0))
    elif kind == "cosine":
        angle = math.pi * max(0, (step - 1) / n - warmup) / (epochs - warmup)
        assert warmed == pytest.approx(0.3 * (0.1 + 0.9 * math.cos(angle / 2) ** 2))
    else:
        assert warmed == Schedule(kind, n, epochs, [2], 0.5).rate(0.3, step)


def test_a_warm_up_reaches_the_full_rate_at_its_last_step():
    schedule = Schedule("cosine", 4, 3, warmup_epochs=1)
    assert [schedule.rate(1.0, step) for step in range(1, 7)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0, math.cos(math.pi / 16) ** 2])
