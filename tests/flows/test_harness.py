"""The harness is worth something only if a broken flow fails it."""
import pytest
import torch

from flows.base import Flow
from flows.layers import ConditionalCoupling
from tests.flows.harness import check_flow, perturb


class Broken(Flow):
    """A coupling with one fault."""

    def __init__(self, fault):
        super().__init__()
        self.fault, self.sound = fault, perturb(ConditionalCoupling(6, 4, 16))

    def forward(self, x, context=None):
        return self.spoil(*self.sound(x, self.seen(context)))

    def inverse(self, z, context=None):
        if self.fault == "identity inverse":
            return z, -self.sound(z, context)[1]
        return self.spoil(*self.sound.inverse(z, self.seen(context)))

    def seen(self, context):
        if self.fault == "context ignored":
            return torch.zeros_like(context)
        if self.fault == "context of the neighbour":
            return context.roll(1, 0)
        return (
            context.mean(0, keepdim=True).expand_as(context)
            if self.fault == "context averaged"
            else context
        )

    def spoil(self, x, log_det):
        faults = {
            "wrong sign": -log_det,
            "0-d log_det": log_det.sum(),
            "no log_det": 0 * log_det,
            "column log_det": log_det[:, None],
            "scaled log_det": 1.01 * log_det,
            "float64 log_det": log_det.double(),
        }
        return x, faults.get(self.fault, log_det)


class Identity(Flow):
    """Invertible, consistent, and nothing is learned from testing it."""

    def forward(self, x, context=None):
        return x, x.new_zeros(len(x))

    inverse = forward


def test_the_sound_flow_passes():
    for dtype in (torch.float32, torch.float64):
        check_flow(Broken("none"), (6,), (4,), dtype)


@pytest.mark.parametrize(
    "fault",
    [
        "identity inverse",
        "wrong sign",
        "0-d log_det",
        "no log_det",
        "column log_det",
        "scaled log_det",
        "context ignored",
        "context of the neighbour",
        "context averaged",
    ],
)
def test_a_broken_flow_fails(fault):
    with pytest.raises(AssertionError):
        check_flow(Broken(fault), (6,), (4,))


def test_a_log_det_of_another_type_fails():
    with pytest.raises(AssertionError, match="float64"):
        check_flow(Broken("float64 log_det"), (6,), (4,), torch.float32)


def test_an_unperturbed_flow_fails():
    with pytest.raises(AssertionError, match="identity"):
        check_flow(Identity(), (6,), None)
    with pytest.raises(AssertionError, match="identity"):
        check_flow(ConditionalCoupling(6, 4, 16), (6,), (4,))


def test_a_flow_that_inverts_in_float32_only_fails():
    class Coarse(Broken):
        def inverse(self, z, context=None):
            x, log_det = super().inverse(z, context)
            return x + 1e-6, log_det

    with pytest.raises(AssertionError, match="misses"):
        check_flow(Coarse("none"), (6,), (4,))
