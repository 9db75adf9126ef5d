"""The distribution over distances that a policy adapts: what is drawn from it, how it moves, and
that it learns."""
import copy
import io

import pytest
import torch

from batchminer import MINERS, select
from tests.batchminer.test_miners import LABEL, assert_follows, frequencies, rows, triplets_of
from tests.oracles.miners import parametric
from utilities.seed import seed_everything

BINS = 29


def metrics(value, intra=0.3, inter=0.7):
    return {"e_recall@1": value, "nmi": value, "dists@intra": intra, "dists@inter": inter}


def in_environment(miner, calls, reward):
    """Adapt to a metric that depends on the distribution alone; the mean of the last 30
    distributions."""
    masses = []
    for t in range(calls):
        mass = miner.log_mass.exp()
        miner.adapt(metrics(reward(mass).item()), t / calls)
        masses.append(mass)
    return torch.stack(masses[-30:]).mean(0)


@pytest.mark.parametrize(
    "n_support,support_lim", [(30, (0.1, 1.4)), (5, (0.5, 1.9)), (12, (0.0, 2.0))]
)
def test_any_distribution_is_drawn_from_exactly(n_support, support_lim):
    x, miner = rows(3, seed=6), select("parametric", n_support=n_support, support_lim=support_lim)
    mass = torch.rand(n_support - 1, dtype=torch.float64) ** 3
    miner.log_mass = mass.log()
    table = parametric(
        x.numpy(), LABEL.tolist(), n_support=n_support, support_lim=support_lim, mass=mass.tolist()
    )
    assert_follows(frequencies(miner, x), table)


@pytest.mark.parametrize(
    "mode,low,high",
    [("uniform", 0, 2), ("semihards", 0.3, 0.7), ("hards", 0, 0.5), ("veryhards", 0, 0.3)],
)
def test_the_start_is_even_on_the_distances_of_the_mode(mode, low, high):
    miner = select("parametric", mode=mode)
    centre = 0.1 + (torch.arange(BINS) + 0.5) * 1.3 / BINS
    inside = (centre >= low) & (centre <= high)
    torch.testing.assert_close(
        miner.log_mass.exp(), inside / inside.sum().double(), rtol=1e-12, atol=2e-14
    )
    # every bin can come back
    assert (miner.log_mass >= torch.tensor(0.9e-15).log()).all()


def test_only_the_parametric_miner_adapts():
    assert [name for name, cls in MINERS.items() if cls.adapts] == ["parametric"]


def test_an_action_multiplies_every_bin_and_the_mass_stays_one():
    miner, seen = select("parametric", mode="uniform", alpha=0.5, beta=3.0), set()
    for _ in range(10):
        before = miner.log_mass.exp()
        miner.adapt(metrics(0.5))
        assert miner.log_mass.exp().sum().item() == pytest.approx(1, abs=1e-12)
        expected = before * torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)[miner.past["action"]]
        torch.testing.assert_close(
            miner.log_mass.exp(), expected / expected.sum(), rtol=1e-9, atol=1e-13
        )
        seen |= set(miner.past["action"].tolist())
    assert seen == {0, 1, 2}


def test_no_bin_falls_below_the_floor():
    miner = select("parametric", mode="uniform", alpha=1e-9, beta=1e9)
    for _ in range(20):
        miner.adapt(metrics(0.5))
        assert miner.log_mass.exp().min() > 0.9e-15 and torch.isfinite(miner.log_mass).all()


def test_actions_follow_the_policy():
    miner, counts = (
        select("parametric", lr=0.0, mode="uniform", alpha=1.0, beta=1.0),
        torch.zeros(BINS, 3),
    )
    for _ in range(900):
        # nothing moves, so neither do they
        miner.adapt(metrics(0.5))
        counts += torch.nn.functional.one_hot(miner.past["action"], 3)
    chance = miner.action_logits(miner.past["input"]).exp()
    assert ((counts - 900 * chance).abs() < 5 * (900 * chance * (1 - chance)).sqrt()).all()


def test_the_policy_sees_running_means_the_distribution_and_the_progress():
    miner, values = select("parametric"), torch.rand(40, 4, dtype=torch.float64)
    for t, value in enumerate(values):
        before = miner.log_mass.exp()
        miner.adapt(value, progress=t / 40)
    means = [values[-h:].mean(0) for h in (2, 8, 16, 32)]
    torch.testing.assert_close(
        miner.past["input"], torch.cat([*means, before, torch.tensor([39 / 40]).double()])
    )


def test_names_and_order_of_metrics_agree():
    one, other = select("parametric"), select("parametric")
    for value in torch.rand(5, 4):
        one.adapt(value, 0.5)
        other.adapt(
            dict(
                zip(
                    ("nmi", "unread", "dists@inter", "e_recall@1", "dists@intra"),
                    (value[1], 0, value[3], value[0], value[2]),
                )
            ),
            0.5,
        )
    assert torch.equal(one.log_mass, other.log_mass)
    assert torch.equal(one.past["history"], other.past["history"])


@pytest.mark.parametrize("change,sign", [(0.1, 1), (-0.1, -1), (0.0, 0)])
def test_a_better_metric_makes_the_last_action_likelier(change, sign):
    miner = select("parametric", mode="uniform")
    miner.adapt(metrics(0.5))
    state, action = miner.past["input"], miner.past["action"][:, None]
    before = miner.action_logits(state).gather(1, action).mean().item()
    # distances are not rewarded
    miner.adapt(metrics(0.5 + change, intra=9.0, inter=9.0))
    after = miner.action_logits(state).gather(1, action).mean().item()
    assert abs(after - before) > 1e-3 if sign else after == before
    assert (after > before) is (sign > 0)
    assert miner.past["baseline"] == pytest.approx(0.05 * sign)


def test_the_gradient_is_that_of_the_formula():
    miner = select("parametric", mode="uniform")
    miner.adapt(metrics(0.5))
    miner.past["baseline"] = 0.25
    log_pi = torch.log_softmax(miner.policy(miner.past["input"]).view(BINS, 3), -1)
    chosen = sum(log_pi[k, action] for k, action in enumerate(miner.past["action"].tolist())) / BINS
    expected = torch.autograd.grad((1 - 0.25) * chosen, list(miner.policy.parameters()))
    miner.adapt(metrics(0.6))
    for parameter, gradient in zip(miner.policy.parameters(), expected):
        torch.testing.assert_close(parameter.grad, -gradient)


@pytest.mark.parametrize(
    "bins,seeds",
    [
        (slice(8, 14), 1),
        *(
            pytest.param(slice(*ends), 3, marks=pytest.mark.slow)
            for ends in ((8, 14), (0, 4), (22, 29))
        ),
    ],
)
def test_it_finds_the_bins_that_raise_the_metric(bins, seeds):
    learned, blind = (
        sum(
            in_environment(
                select("parametric", seed, mode="uniform", lr=lr),
                150,
                lambda mass: mass[bins].sum(),
            )[bins].sum()
            for seed in range(seeds)
        )
        / seeds
        for lr in (1e-3, 0.0)
    )
    assert learned > 0.85 > blind + 0.3


def test_adapting_needs_no_gradient_mode_and_leaves_other_randomness_alone():
    seed_everything(0)
    before = torch.get_rng_state()
    with torch.no_grad():
        miner = select("parametric")
        for value in (0.1, 0.2, 0.3):
            miner.adapt(metrics(value))
    assert torch.equal(torch.get_rng_state(), before)
    assert any(p.grad.abs().max() > 0 for p in miner.policy.parameters())


def test_a_saved_state_is_numbers_and_tensors_and_resumes_exactly():
    miner, x = select("parametric", seed=3), rows(3)

    def onward(miner, values):
        steps = []
        for value in values:
            miner.adapt(metrics(value), value)
            steps.append((triplets_of(miner(x, LABEL)), miner.log_mass.tolist()))
        return steps

    onward(miner, torch.rand(40).tolist())
    file = io.BytesIO()
    torch.save(miner.state_dict(), file)
    state = copy.deepcopy(miner.state_dict())
    values = torch.rand(6).tolist()
    expected = onward(miner, values)
    file.seek(0)
    fresh = select("parametric", seed=99)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert onward(fresh, values) == expected
    assert set(state) == {"draws", "choices", "log_mass", "policy", "optimizer", "past"}
    never = select("parametric", seed=99)
    # before the first call, too
    never.load_state_dict(select("parametric", seed=3).state_dict())
    assert onward(never, values) == onward(select("parametric", seed=3), values)
