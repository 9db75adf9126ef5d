"""The policy: what it sees, where it starts, and that its draws follow its probabilities."""
import pytest
import torch

from criteria.method import WEIGHTINGS
from criteria.method.decision import Actions, Decision
from criteria.method.pairs import pairs_of
from criteria.method.policy import Policy
from criteria.method.statistics import anchor_statistics, batch_statistics
from criteria.method.weighting import Factor, Sharpness
from utilities.errors import UsageError
from utilities.pairwise import unit
from utilities.seed import RandomStream

LABEL = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])


@pytest.fixture
def pairs():
    return pairs_of(torch.randn(len(LABEL), 6, dtype=torch.float64), LABEL)


def state():
    return torch.randn(9, 5, dtype=torch.float64)


@pytest.mark.parametrize("granularity,deciders", [("batch", 1), ("anchor", 9)])
@pytest.mark.parametrize("action", WEIGHTINGS)
def test_policy_starts_uniform_and_samples_what_it_says(pairs, granularity, deciders, action):
    weighting = Sharpness() if action == "sharpness" else Factor(scale="none")
    policy = Policy(5, weighting, granularity=granularity).double()
    decision = policy(state(), pairs)
    size = len(weighting.grids[0])
    uniform = torch.full((deciders, size), 1 / size, dtype=torch.float64)
    torch.testing.assert_close(decision.positive.exp(), uniform)
    torch.testing.assert_close(decision.entropy(), torch.full((2,), float(size)).log().double())
    with torch.no_grad():
        policy.head_positive.bias[3] += 2.0
    decision = policy(state(), pairs)
    actions = decision.draw(4000, policy.stream)
    assert actions.positive.shape == (4000, deciders)
    share = (actions.positive[:, 0] == 3).double().mean().item()
    expected = decision.positive[0, 3].exp().item()
    assert abs(share - expected) < 5 * (expected * (1 - expected) / 4000) ** 0.5


def test_one_factor_for_the_batch_is_refused():
    with pytest.raises(UsageError, match="granularity anchor"):
        Policy(5, Factor(), granularity="batch")


def test_log_probability_and_entropy_are_those_of_both_signs():
    logits = torch.randn(3, 4, dtype=torch.float64).log_softmax(-1), torch.randn(3, 2).double().log_softmax(-1)
    decision = Decision(*logits)
    actions = Actions(torch.tensor([[0, 1, 3]]), torch.tensor([[1, 0, 1]]))
    for i in range(3):
        expected = logits[0][i, actions.positive[0, i]] + logits[1][i, actions.negative[0, i]]
        torch.testing.assert_close(decision.log_prob(actions)[0, i], expected)
    for sign, log_p in enumerate(logits):
        by_torch = torch.distributions.Categorical(logits=log_p).entropy().mean()
        torch.testing.assert_close(decision.entropy()[sign], by_torch)
        torch.testing.assert_close(decision.probability()[sign], log_p.exp().mean(0))


def test_mode_and_permutation_follow_the_deciders():
    decision = Decision(torch.eye(3).log_softmax(-1), torch.eye(3).flip(0).log_softmax(-1))
    assert decision.mode().positive.tolist() == [[0, 1, 2]]
    assert decision.mode().negative.tolist() == [[2, 1, 0]]
    assert decision.permuted(torch.tensor([2, 0, 1])).mode().positive.tolist() == [[2, 0, 1]]


@pytest.mark.parametrize("granularity", ["batch", "anchor"])
def test_a_policy_may_start_at_the_loss_as_it_is(granularity):
    policy = Policy(5, Sharpness(), granularity, init="unweighted")
    z = unit(torch.randn(6, 4))
    decision = policy(torch.randn(6, 5), pairs_of(z, torch.arange(6) // 2))
    for chance, grid in zip((one.exp() for one in decision), policy.grids):
        torch.testing.assert_close(chance[:, grid == 0], torch.full((len(chance), 1), 0.9))
        torch.testing.assert_close(chance[:, grid != 0], torch.full((len(chance), len(grid) - 1), 0.1 / 7))


def test_a_factor_has_no_action_to_start_at():
    with pytest.raises(UsageError, match="--policy_action weight has none: pass --policy_init zero"):
        Policy(5, Factor(), "anchor", init="unweighted")


def test_of_non_finite_probabilities_any_action_is_drawn():
    decision = Decision(torch.full((1, 4), torch.nan), torch.zeros(1, 4).log_softmax(-1))
    actions = decision.draw(50, RandomStream())
    assert actions.positive.min() >= 0
    assert actions.positive.max() < 4


@pytest.mark.parametrize("granularity,statistics", [("batch", batch_statistics), ("anchor", anchor_statistics)])
def test_what_the_policy_sees(pairs, granularity, statistics):
    states = state()
    by_input = {kind: Policy(5, Sharpness(), granularity, kind).observe(states, pairs)
                for kind in ("state", "statistics", "both")}
    torch.testing.assert_close(by_input["statistics"], statistics(pairs))
    pooled = states.mean(0, keepdim=True) if granularity == "batch" else states
    centred = pooled - pooled.mean(-1, keepdim=True)
    torch.testing.assert_close(by_input["state"], unit(centred), rtol=1e-4, atol=1e-4)
    assert torch.equal(by_input["both"], torch.cat([by_input["state"], by_input["statistics"]], -1))


def test_policy_inputs_are_detached():
    states = state().requires_grad_()
    rows = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    policy = Policy(5, Sharpness()).double()
    with torch.no_grad():
        policy.head_positive.weight.normal_()
    policy(states, pairs_of(rows, LABEL)).positive[:, 0].sum().backward()
    assert states.grad is None
    assert rows.grad is None
    assert policy.head_positive.weight.grad is not None


def test_values_are_those_of_the_grid():
    policy = Policy(0, Sharpness(), input="statistics")
    positive, negative = policy.values(Actions(torch.tensor([[0], [4]]), torch.tensor([[1], [7]])))
    assert positive.tolist() == [[-20.0], [5.0]]
    assert negative.tolist() == [[5.0], [320.0]]


def test_the_policys_stream_is_in_its_state_dict(pairs):
    policy = Policy(0, Sharpness(), input="statistics").double()
    decision = policy(None, pairs)
    decision.draw(4, policy.stream)
    saved = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in policy.state_dict().items()}
    expected = decision.draw(4, policy.stream)
    other = Policy(0, Sharpness(), input="statistics", seed=9).double()
    other.load_state_dict(saved)
    found = decision.draw(4, other.stream)
    assert torch.equal(found.positive, expected.positive)
    assert torch.equal(found.negative, expected.negative)
