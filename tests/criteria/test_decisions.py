"""Distributions over actions against closed forms, and what a decider that acts on one sign leaves out."""
import math

import pytest
import torch

from criteria.decisions import Actions, Decision, NormalDecision
from criteria.pair_weighting import PairWeighting
from criteria.policy_gradient import leave_one_out, score_function_loss

GRIDS = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.0, 1.0])


def normal(mean, log_spread, applies=None):
    """Decisions of these means and log spreads, the negative one's mean larger by one."""
    bent = [math.atanh((s + 1) / 2) - math.atanh(0.5) for s in log_spread]
    rows = torch.tensor([[m, b] for m, b in zip(mean, bent)], dtype=torch.float64)
    return NormalDecision(rows, rows + torch.tensor([1.0, 0.0]), applies, tuple(g.double() for g in GRIDS))


def density(x, mean, spread):
    return math.exp(-((x - mean) / spread) ** 2 / 2) / (spread * math.sqrt(2 * math.pi))


def test_normal_log_density_and_entropy_equal_the_formula():
    decision = normal([0.5, -1.0], [0.0, -0.7])
    actions = Actions(torch.tensor([[0.2, 0.3]]).double(), torch.tensor([[1.0, -0.4]]).double())
    for i, (mean, spread) in enumerate([(0.5, 1.0), (-1.0, math.exp(-0.7))]):
        both = density(actions.positive[0, i], mean, spread) * density(actions.negative[0, i], mean + 1, spread)
        assert math.isclose(decision.log_prob(actions)[0, i].item(), math.log(both), rel_tol=1e-9)
        entropy = 0.5 * math.log(2 * math.pi * math.e * spread ** 2)
        torch.testing.assert_close(decision.entropy()[i], torch.full((2,), entropy, dtype=torch.float64))


def test_normal_draws_follow_mean_and_spread_and_the_shares_of_the_grid():
    decision = normal([0.5], [-0.7])
    drawn = decision.draw(20000, torch.Generator().manual_seed(0)).positive[:, 0]
    spread = math.exp(-0.7)
    assert abs(drawn.mean() - 0.5) < 5 * spread / 20000 ** 0.5 and abs(drawn.std() / spread - 1) < 0.03
    nearest = (drawn[:, None] - GRIDS[0]).abs().argmin(1)
    shares = torch.stack([(nearest == a).double().mean() for a in range(3)])
    torch.testing.assert_close(decision.probability()[0], shares, rtol=0, atol=0.02)
    assert math.isclose(decision.probability()[1].sum().item(), 1)
    assert decision.mode().positive.item() == 0.5


def test_the_spread_starts_at_one_and_nears_its_limits_with_a_gradient():
    bent = torch.tensor([0.0, 3.0, -3.0], dtype=torch.float64, requires_grad=True)
    rows = torch.stack([torch.zeros(3).double(), bent], -1)
    spread = NormalDecision(rows, rows).normals[0].stddev
    assert math.isclose(spread[0].item(), 1) and 2.6 < spread[1] < math.e and 1 > spread[2] > math.exp(-3)
    spread.sum().backward()
    assert (bent.grad > 0).all()


@pytest.mark.parametrize("kind", ["grid", "normal"])
def test_a_decider_of_one_sign_leaves_the_other_out(kind):
    applies = torch.tensor([[True, False], [False, True], [False, False]])
    if kind == "grid":
        logits = torch.randn(3, 4, dtype=torch.float64).log_softmax(-1), torch.randn(3, 2).double().log_softmax(-1)
        whole, part = Decision(*logits), Decision(*logits, applies)
        actions = Actions(torch.tensor([[0, 1, 3]]), torch.tensor([[1, 0, 1]]))
        each = [logits[i].gather(1, actions[i].T)[:, 0] for i in range(2)]
    else:
        whole, part = normal([0.1, 0.2, 0.3], [0.0, 0.1, 0.2]), normal([0.1, 0.2, 0.3], [0.0, 0.1, 0.2], applies)
        actions = Actions(torch.randn(1, 3).double(), torch.randn(1, 3).double())
        each = [n.log_prob(a)[0] for n, a in zip(whole.normals, actions)]
    torch.testing.assert_close(part.log_prob(actions)[0], torch.stack([each[0][0], each[1][1], 0 * each[0][2]]))
    torch.testing.assert_close(whole.log_prob(actions)[0], each[0] + each[1])
    torch.testing.assert_close(part.mean_entropy(), whole.entropy()[[0, 1], [0, 1]])
    torch.testing.assert_close(torch.cat(part.probability()),
                               torch.cat([type(whole)(*(p[i:i + 1] for p in whole.signs), None,
                                                      *([whole.grids] if kind == "normal" else [])).probability()[i]
                                          for i in range(2)]))


def test_continuous_sharpness_is_what_its_actions_mean():
    weighting = PairWeighting(0, action="continuous", input="statistics").double()
    z, label = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1])
    actions = Actions(torch.tensor([[0.7]]).double(), torch.tensor([[-0.5]]).double())
    expected = weighting.weights_of(torch.tensor([[5 * math.sinh(0.7)]]).double(),
                                    torch.tensor([[40 * math.exp(-0.5)]]).double(), z, label)
    for ours, theirs in zip(weighting.weights(actions, z, label), expected):
        torch.testing.assert_close(ours, theirs)
    shares = weighting(None, z, label).probability()                               # of a standard normal at the start
    assert [len(s) for s in shares] == [8, 8] and shares[1].argmax() == 4          # b_n 40


def test_continuous_policy_climbs_to_the_best_action():
    """Reward -(a_p - 1)^2 - (a_n + .5)^2: the means go there, and the spread shrinks."""
    weighting = PairWeighting(0, action="continuous", input="statistics")
    z, label = torch.randn(6, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    optimizer = torch.optim.Adam(weighting.parameters(), lr=2e-2)
    for _ in range(400):
        decision = weighting(None, z, label)
        actions = weighting.sample(decision, 8)
        reward = -(actions.positive - 1) ** 2 - (actions.negative + 0.5) ** 2
        optimizer.zero_grad()
        score_function_loss(decision.log_prob(actions), leave_one_out(reward)).backward()
        optimizer.step()
    decision = weighting(None, z, label)
    assert abs(decision.mode().positive - 1) < 0.2 and abs(decision.mode().negative + 0.5) < 0.2
    assert all(normal.stddev < 0.5 for normal in decision.normals)
