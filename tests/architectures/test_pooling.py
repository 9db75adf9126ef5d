"""Pooling against loops over the places of a map."""

import pytest
import torch

from architectures.network import POOLINGS, GeM
from architectures.network import select_pooling as select
from utilities.errors import UsageError

MAP = torch.rand(3, 4, 2, 5, dtype=torch.float64)


def by_loop(name, values):
    """One channel's values, a list, to a number."""
    mean = sum(values) / len(values)
    return {
        "avg": mean,
        "own": mean,
        "max": max(values),
        "avg+max": mean + max(values),
        "gem": (sum(v**3 for v in values) / len(values)) ** (1 / 3),
    }[name]


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_is_its_loop(name):
    channels = MAP.flatten(0, 1).flatten(1).tolist()
    expected = torch.tensor([by_loop(name, values) for values in channels], dtype=torch.float64)
    torch.testing.assert_close(select(name).double()(MAP), expected.view(3, 4))


def test_average_plus_maximum_is_the_default():
    assert torch.equal(select(None)(MAP), select("avg+max")(MAP))


def test_unknown_names_are_listed():
    with pytest.raises(UsageError, match="--pooling gen.*gem.*avg, avg[+]max, gem, max, own"):
        select("gen")


def test_gem_lies_between_average_and_maximum():
    torch.testing.assert_close(GeM(p=1.0).double()(MAP), MAP.mean((2, 3)))
    torch.testing.assert_close(GeM(p=400.0).double()(MAP), MAP.amax((2, 3)), rtol=0.02, atol=0)


def test_gem_has_the_gradient_of_its_formula():
    gem = GeM(p=2.5).double()
    assert torch.autograd.gradcheck(
        lambda x, p: torch.func.functional_call(gem, {"p": p}, (x,)),
        (MAP.clone().requires_grad_(), gem.p.detach().clone().requires_grad_()),
    )


@pytest.mark.parametrize(
    "value,p", [(1e30, 3.0), (1e5, 40.0), (1e-5, 30.0), (0.0, 3.0), (-2.0, 3.0)]
)
def test_gem_is_finite_in_float32(value, p):
    scale = torch.linspace(0.5, 1, 9).view(3, 3)
    feature_map = torch.full((1, 2, 3, 3), value).mul(scale).requires_grad_()
    gem = GeM(p=p)
    pooled = gem(feature_map)
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert feature_map.grad.isfinite().all()
    assert gem.p.grad.isfinite().all()
    if value > 1e-6:
        exact = feature_map.detach().double().clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p)
        torch.testing.assert_close(pooled.detach().double(), exact, rtol=1e-4, atol=0)


def test_a_power_below_one_counts_as_one_and_comes_back():
    gem = GeM(p=0.4).double()
    pooled = gem(MAP)
    torch.testing.assert_close(pooled, MAP.mean((2, 3)))
    pooled.sum().backward()
    # towards the maximum
    assert gem.p.grad > 0
