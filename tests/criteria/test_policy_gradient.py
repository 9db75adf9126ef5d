"""The shipped estimator against the exact gradient by enumeration; rewards against their definitions."""
import itertools

import pytest
import torch

from criteria import select
from criteria.base import PairWeights
from criteria.decisions import Actions, Decision
from criteria.pair_weighting import PairWeighting
from criteria.policy_gradient import (
    assign,
    batch_ap,
    leave_one_out,
    lookahead,
    score_function_loss,
    standardise,
    virtual_step,
)
from utilities.pairwise import unit

LABEL = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])


def embeddings(dim=5, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(len(LABEL), dim, generator=generator, dtype=torch.float64))


def small_policy(actions=3, seed=0):
    """Logits of one decider over two small grids, and a reward for each joint action."""
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(1, actions, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    reward = torch.rand(actions, actions, generator=generator, dtype=torch.float64)
    return logits, reward


def exact_gradient(logits, reward):
    expected = (logits[0].softmax(-1).T * logits[1].softmax(-1) * reward).sum()
    return torch.autograd.grad(expected, logits)


def expected_estimate(logits, reward, advantage_of, samples=2):
    """The estimator's gradient averaged over every possible K-tuple of joint actions, with its probability."""
    total = [torch.zeros_like(logit) for logit in logits]
    pairs = list(itertools.product(range(reward.shape[0]), range(reward.shape[1])))
    for drawn in itertools.product(pairs, repeat=samples):
        decision = Decision(*(logit.log_softmax(-1) for logit in logits))
        actions = Actions(*(torch.tensor(column)[:, None] for column in zip(*drawn)))
        log_prob = decision.log_prob(actions)                                      # (K, 1)
        rewards = torch.stack([reward[pair] for pair in drawn])[:, None]           # (K, 1)
        gradient = torch.autograd.grad(score_function_loss(log_prob, advantage_of(rewards)), logits)
        probability = log_prob.sum().exp().detach()
        total = [t - probability * g for t, g in zip(total, gradient)]             # the loss is minus the objective
    return total


@pytest.mark.parametrize("samples", [2, 3])
def test_leave_one_out_estimator_equals_the_exact_gradient(samples):
    logits, reward = small_policy()
    for estimate, exact in zip(expected_estimate(logits, reward, leave_one_out, samples),
                               exact_gradient(logits, reward)):
        torch.testing.assert_close(estimate, exact, rtol=1e-9, atol=1e-12)


def test_estimator_without_baseline_equals_the_exact_gradient_too():
    logits, reward = small_policy(seed=1)
    for estimate, exact in zip(expected_estimate(logits, reward, lambda r: r), exact_gradient(logits, reward)):
        torch.testing.assert_close(estimate, exact, rtol=1e-9, atol=1e-12)


def test_standardised_advantage_keeps_the_direction():
    logits, reward = small_policy(seed=2)
    estimates = expected_estimate(logits, reward, lambda r: standardise(leave_one_out(r)), samples=3)
    exact = exact_gradient(logits, reward)
    cosine = torch.nn.functional.cosine_similarity(torch.cat(estimates, 1), torch.cat(exact, 1))
    assert cosine.item() > 0.9


def test_a_reward_that_ignores_the_action_has_no_gradient():
    logits, reward = small_policy()
    blind = torch.full_like(reward, 0.7)                                           # batch_ap: the same for every action
    for estimate in expected_estimate(logits, blind, lambda r: r):                 # zero on average without baseline
        assert estimate.abs().max() < 1e-12
    decision = Decision(*(logit.log_softmax(-1) for logit in logits))
    actions = Actions(torch.tensor([[0], [2]]), torch.tensor([[1], [1]]))
    loss = score_function_loss(decision.log_prob(actions), leave_one_out(torch.full((2, 1), 0.7)))
    for gradient in torch.autograd.grad(loss, logits):                             # exactly zero with it
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("reward", ["batch_ap", "lookahead"])
def test_expected_gradient_of_the_two_rewards_on_a_real_batch(reward):
    """The exact policy gradient over the whole sharpness grid: zero for the published reward, not for look-ahead."""
    z, weighting = embeddings(), PairWeighting(4).double()
    grid = list(itertools.product(range(8), range(8)))
    actions = Actions(*(torch.tensor(column)[:, None] for column in zip(*grid)))
    if reward == "batch_ap":
        value = batch_ap(z, LABEL).mean().expand(64)
    else:
        weights = weighting.weights(actions, z, LABEL)
        value = lookahead(select("gpw", n_classes=3, embed_dim=5), z, LABEL, None, weights).mean(-1)
    logits = [torch.zeros(1, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    gradient = exact_gradient(logits, value.reshape(8, 8))
    norm = torch.cat(gradient, 1).norm().item()
    assert norm < 1e-12 if reward == "batch_ap" else norm > 1e-4


def test_virtual_step_has_the_asked_length_and_follows_the_gradient():
    z, criterion = embeddings(), select("gpw", n_classes=3, embed_dim=5)
    weight = PairWeights(torch.rand(3, 8, 8, dtype=torch.float64) + 0.1, torch.rand(3, 8, 8, dtype=torch.float64) + 0.1)
    moved = virtual_step(criterion, z, LABEL, None, weight, 0.2)
    for k in range(3):
        rows = z.clone().requires_grad_()
        gradient, = torch.autograd.grad(criterion(rows, LABEL, None, PairWeights(*(w[k] for w in weight))), rows)
        eta = 0.2 / gradient.square().sum(-1).mean().sqrt()
        torch.testing.assert_close((eta * gradient).square().sum(-1).mean().sqrt().item(), 0.2)
        torch.testing.assert_close(moved[k], unit(z - eta * gradient), rtol=1e-9, atol=1e-12)


def test_virtual_step_without_any_gradient_stays_where_it_is():
    z, label = embeddings(), torch.arange(8)                                       # no positive pair anywhere
    ones = torch.ones(2, 8, 1, dtype=torch.float64)
    moved = virtual_step(select("gpw", n_classes=8, embed_dim=5), z, label, None, PairWeights(ones, ones), 0.2)
    torch.testing.assert_close(moved, z.expand(2, -1, -1))


def test_reward_is_credited_to_the_batch_or_mixed_over_the_anchors():
    reward = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    assert assign(reward, 1, 0.3).tolist() == [[0.5], [0.5]]
    torch.testing.assert_close(assign(reward, 2, 0.5), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    torch.testing.assert_close(assign(reward, 4, 0.5), torch.tensor([[0.25, 0.25, 0.75, 0.75], [0.5] * 4]))


def test_leave_one_out_by_hand():
    torch.testing.assert_close(leave_one_out(torch.tensor([[1.0], [2.0], [6.0]])),
                               torch.tensor([[1.0 - 4.0], [2.0 - 3.5], [6.0 - 1.5]]))


def test_a_spread_that_is_noise_is_not_blown_up():
    """Where all actions do equally well the advantage stays near zero; a real spread becomes one."""
    noise, signal = torch.tensor([[1e-5], [-1e-5]]), torch.tensor([[0.1], [-0.1]])
    torch.testing.assert_close(standardise(noise), torch.tensor([[1e-3], [-1e-3]]))
    torch.testing.assert_close(standardise(signal), torch.tensor([[1.0], [-1.0]]))
