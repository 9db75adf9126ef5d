"""Episodes rewarded by the validation classes: the arithmetic, what trains when, and that the better action wins."""
import pytest
import torch

from criteria.validation_reward import FORGET, Episodes
from tests.criteria.test_lm_metric import build, step
from utilities.errors import UsageError


def test_reward_is_the_change_and_its_advantage_is_against_past_episodes():
    episodes = Episodes(5)
    values, mean, square = [0.1, 0.3, 0.4, 0.3], None, None
    for before, value in zip([None] + values, values):
        episodes.adapt({"mAP_r": value})
        if before is None:
            assert episodes.close() is None                                        # it only measured where we stand
            continue
        reward = value - before
        difference = 0.0 if mean is None else reward - mean
        if difference:
            square = difference ** 2 if square is None else (1 - FORGET) * square + FORGET * difference ** 2
        mean = reward if mean is None else (1 - FORGET) * mean + FORGET * reward
        expected = difference / square ** 0.5 if difference else 0.0
        assert episodes.past["reward"] == pytest.approx(reward) and episodes.past["mean"] == pytest.approx(mean)
        assert episodes.close()[2] == pytest.approx(expected) and episodes.close() is None


def play(method, network):
    """One step; the action in force, and whether the policy got a gradient."""
    method.zero_grad()
    _, _, terms = step(network, method)
    terms["total"].backward()
    grads = [p.grad for p in method.weighting.parameters()]
    return method.episodes.action, any(g is not None and g.abs().sum() > 0 for g in grads)


def test_one_action_an_episode_and_a_gradient_only_after_it():
    network, method = build(memory="none", reward="validation", entropy_bonus=0.0, policy={"action": "continuous"})
    first, learned = play(method, network)
    assert not learned and play(method, network)[0] is first
    for value, expected in ((0.1, False), (0.2, False), (0.5, True)):              # the first two have no baseline yet
        method.episodes.adapt({"mAP_r": value})
        action, learned = play(method, network)
        assert learned == expected and action is not first
        first = action
        assert play(method, network) == (first, False)


def test_the_action_that_helps_the_validation_classes_wins():
    """Sharp negatives raise the metric, others do not: after 200 episodes the policy prefers them."""
    network, method = build(memory="none", relation=False, reward="validation", entropy_bonus=0.0)
    optimizer, value = torch.optim.Adam(method.weighting.parameters(), lr=5e-2), 0.0
    for _ in range(200):
        method.zero_grad()
        step(network, method)[2]["policy"].requires_grad_().backward()
        optimizer.step()
        value += 0.01 * (method.episodes.action.negative.item() >= 5)
        method.episodes.adapt({"mAP_r": value})
    decision = method.weighting.judge(method.episodes.input)
    assert decision.negative.exp()[0, 5:].sum() > 0.8


def test_an_episode_goes_on_after_a_round_trip():
    network, method = build(memory="none", reward="validation")
    step(network, method)
    method.episodes.adapt({"mAP_r": 0.3})
    step(network, method)
    other = build(memory="none", reward="validation")[1]
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.episodes.action.positive, method.episodes.action.positive) and not other.episodes.over
    assert torch.equal(other.episodes.input, method.episodes.input) and other.episodes.past == method.episodes.past


@pytest.mark.parametrize("arguments", [{"policy": {"granularity": "anchor"}},
                                       {"pair_weighting": "shuffled", "policy": {"granularity": "anchor"}}])
def test_one_number_cannot_reward_many_actions(arguments):
    with pytest.raises(UsageError, match="granularity batch"):
        build(reward="validation", **arguments)
