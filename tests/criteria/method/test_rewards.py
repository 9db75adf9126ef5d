"""Rewards against their definitions: the look-ahead by autograd, and the gradient that each can give."""
import itertools

import pytest
import torch

from criteria import SmoothAP, select
from criteria.base import PairWeights
from criteria.method import REWARDS
from criteria.method.decision import Actions
from criteria.method.pairs import pairs_of
from criteria.method.policy import Policy
from criteria.method.rewards import Lookahead, batch_ap, in_range
from criteria.method.weighting import Sharpness
from tests.oracles.policy import naive_average_precision
from utilities.pairwise import positive_mask, unit

LABEL = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])


def embeddings(dim=5, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(len(LABEL), dim, generator=generator, dtype=torch.float64))


def criterion(n_classes=3):
    return select("gpw", n_classes=n_classes, embed_dim=5)


def weights_of_the_whole_grid(pairs):
    """The pair weights of all 64 actions, (64, B, B) each."""
    policy = Policy(0, Sharpness(), input="statistics").double()
    positive, negative = zip(*itertools.product(range(8), range(8)))
    values = policy.values(Actions(torch.tensor(positive)[:, None], torch.tensor(negative)[:, None]))
    return policy.weights(values, pairs)


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_is_one_number_an_action_and_an_image(name):
    z = embeddings()
    pairs = pairs_of(z, LABEL)
    reward = REWARDS[name]()(criterion(), z, LABEL, None, weights_of_the_whole_grid(pairs), pairs)
    assert reward.shape == (64, len(LABEL))
    assert (reward >= 0).all()
    assert (reward <= 1).all()


def test_the_batchs_average_precision_is_that_of_loops():
    z = embeddings()
    found = batch_ap(2 * z, positive_mask(LABEL))
    s = (z @ z.T).numpy()
    for i in range(len(LABEL)):
        assert found[i].item() == pytest.approx(naive_average_precision(s, LABEL.tolist(), i))


@pytest.mark.parametrize("name,learns", [("batch_ap", False), ("lookahead", True)])
def test_expected_gradient_of_the_rewards_on_a_real_batch(name, learns):
    """The exact policy gradient over the whole sharpness grid: zero for the published reward, not for look-ahead."""
    z = embeddings()
    pairs = pairs_of(z, LABEL)
    reward = REWARDS[name]()(criterion(), z, LABEL, None, weights_of_the_whole_grid(pairs), pairs)
    value = reward.mean(-1).reshape(8, 8)
    logits = [torch.zeros(1, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    expected = (logits[0].softmax(-1).T * logits[1].softmax(-1) * value).sum()
    norm = torch.cat(torch.autograd.grad(expected, logits), 1).norm().item()
    assert norm > 1e-4 if learns else norm < 1e-12


def test_virtual_step_has_the_asked_length_and_follows_the_gradient():
    z = embeddings()
    weights = PairWeights(*(torch.rand(3, 8, 8, dtype=torch.float64) + 0.1 for _ in range(2)))
    moved = Lookahead(step=0.3).virtual_step(criterion(), z, LABEL, None, weights)
    for k in range(3):
        rows = z.clone().requires_grad_()
        loss = criterion()(rows, LABEL, None, PairWeights(weights.positive[k], weights.negative[k]))
        gradient, = torch.autograd.grad(loss, rows)
        eta = 0.3 / gradient.square().sum(-1).mean().sqrt()
        torch.testing.assert_close(moved[k], unit(z - eta * gradient), rtol=1e-9, atol=1e-12)


def test_virtual_step_without_any_gradient_stays_where_it_is():
    z = embeddings()
    label = torch.arange(8)  # no positive pair anywhere
    ones = torch.ones(2, 8, 1, dtype=torch.float64)
    moved = Lookahead().virtual_step(criterion(8), z, label, None, PairWeights(ones, ones))
    torch.testing.assert_close(moved, z.expand(2, -1, -1))


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_virtual_step_where_classes_are_apart_is_that_of_double_precision(spread):
    """At a temperature of 0.01 the gradient is then below 1e-22, whose square is zero in float32."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.eye(8, 16, dtype=torch.float64).repeat_interleave(4, 0)
    z = unit(centre + spread * torch.randn(32, 16, generator=generator, dtype=torch.float64))
    label = torch.arange(8).repeat_interleave(4)
    weights = PairWeights(*(torch.rand(2, 32, 1, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2)))
    single = PairWeights(*(w.float() for w in weights))
    pairs = pairs_of(z, label)
    reward = Lookahead()(SmoothAP(), z.float(), label, None, single, pairs)
    torch.testing.assert_close(reward.double(), Lookahead()(SmoothAP(), z, label, None, weights, pairs))


def test_directions_in_range_keep_their_bits():
    gradient = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    small = in_range(gradient * 2.0**-60)
    assert torch.equal(small, in_range(gradient)) and 0.5 <= small.abs().max() < 1
    assert torch.equal(in_range(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))
    assert in_range(torch.full((1, 2, 2), 1e-45)).min() > 0
