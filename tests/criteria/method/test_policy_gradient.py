"""The shipped estimator against the exact gradient by enumeration, and its parts by hand."""
import itertools

import pytest
import torch

from criteria.method.decision import Actions, Decision
from criteria.method.policy_gradient import advantage, credit, leave_one_out, score_function_loss, standardise


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
        log_prob = decision.log_prob(actions)  # (K, 1)
        rewards = torch.stack([reward[pair] for pair in drawn])[:, None]  # (K, 1)
        gradient = torch.autograd.grad(score_function_loss(log_prob, advantage_of(rewards)), logits)
        probability = log_prob.sum().exp().detach()
        total = [t - probability * g for t, g in zip(total, gradient)]  # the loss is minus the objective
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
    blind = torch.full_like(reward, 0.7)  # batch_ap: the same for every action
    for estimate in expected_estimate(logits, blind, lambda r: r):  # zero on average without baseline
        assert estimate.abs().max() < 1e-12
    decision = Decision(*(logit.log_softmax(-1) for logit in logits))
    actions = Actions(torch.tensor([[0], [2]]), torch.tensor([[1], [1]]))
    loss = score_function_loss(decision.log_prob(actions), leave_one_out(torch.full((2, 1), 0.7)))
    for gradient in torch.autograd.grad(loss, logits):  # exactly zero with it
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_reward_is_credited_to_the_batch_or_mixed_over_the_anchors():
    reward = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    assert credit(reward, 1, 0.3).tolist() == [[0.5], [0.5]]
    torch.testing.assert_close(credit(reward, 2, 0.5), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))


def test_leave_one_out_by_hand():
    torch.testing.assert_close(leave_one_out(torch.tensor([[1.0], [2.0], [6.0]])),
                               torch.tensor([[1.0 - 4.0], [2.0 - 3.5], [6.0 - 1.5]]))


def test_a_spread_that_is_noise_is_not_blown_up():
    """Where all actions do equally well the advantage stays near zero; a real spread becomes one."""
    noise, signal = torch.tensor([[1e-5], [-1e-5]]), torch.tensor([[0.1], [-0.1]])
    torch.testing.assert_close(standardise(noise), torch.tensor([[1e-3], [-1e-3]]))
    torch.testing.assert_close(standardise(signal), torch.tensor([[1.0], [-1.0]]))


def test_the_baseline_is_a_choice():
    reward = torch.tensor([[0.1], [0.4]])
    assert torch.equal(advantage(reward, "none"), reward)
    assert torch.equal(advantage(reward, "leave_one_out"), standardise(leave_one_out(reward)))
