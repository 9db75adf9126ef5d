"""The recurrence of the CPU against torch's own: the same states and gradients."""
import pytest
import torch
from torch import nn

from criteria.method import recurrence
from criteria.method.recurrence import Recurrence, gru


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("length", [1, 2, 13])
@pytest.mark.parametrize("narrow", [0, 10**6])
def test_states_and_gradients_are_those_of_torch(monkeypatch, bidirectional, length, narrow):
    monkeypatch.setattr(recurrence, "NARROW", narrow)
    cell = nn.GRU(7, 5, bidirectional=bidirectional).double()
    x = torch.randn(length, 7, dtype=torch.double, requires_grad=True)
    expected = cell(x)[0]
    found = gru(cell, x)
    torch.testing.assert_close(found, expected)
    inputs = [x, *cell.parameters()]
    direction = torch.randn_like(expected)
    gradients = torch.autograd.grad(found, inputs, direction)
    for own, theirs in zip(gradients, torch.autograd.grad(expected, inputs, direction), strict=True):
        torch.testing.assert_close(own, theirs)


def test_the_gradient_is_that_of_finite_differences():
    given = torch.randn(4, 9, dtype=torch.double, requires_grad=True)
    weight = torch.randn(9, 3, dtype=torch.double, requires_grad=True)
    bias = torch.randn(9, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(Recurrence.apply, (given, weight, bias))


def test_saturated_gates_stay_finite():
    cell = nn.GRU(3, 4, bidirectional=True)
    x = torch.full((6, 3), 1e4, requires_grad=True)
    states = gru(cell, x)
    states.sum().backward()
    assert states.isfinite().all()
    assert x.grad.isfinite().all()

