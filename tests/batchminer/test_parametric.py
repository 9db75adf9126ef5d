"""The distribution over distances that a policy adapts: what is drawn from it, how it moves, and
that it learns."""
import copy
import io

import pytest
import torch

from batchminer import MINERS, Triplets, select
from criteria import select as select_criterion
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
        mass = miner.log_mass.softmax(0)
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


# the first and last bin of the start, counted by hand in the authors' code: 29 bins of 1.3/29,
# each standing for its lower edge + 2/30
@pytest.mark.parametrize(
    "mode,first,last",
    [("uniform", 0, 28), ("semihards", 3, 11), ("hards", 0, 7), ("veryhards", 0, 2)],
)
def test_the_start_is_even_on_the_authors_bins(mode, first, last):
    mass = select("parametric", mode=mode).log_mass.exp().tolist()
    drawn = [1.0 if first <= k <= last else 1e-15 for k in range(BINS)]
    assert mass == pytest.approx([weight / sum(drawn) for weight in drawn], rel=1e-12, abs=0)


def test_self_regularised_triplets_hold_the_anchor_and_its_class_everywhere():
    miner = select("parametric", mode="uniform", self_regularise=True)
    x, seen = rows(3), set()
    for _ in range(400):
        mined = triplets_of(miner(x, LABEL))
        assert [a for a, _, _ in mined] == list(range(len(LABEL)))
        seen |= set(mined)
    # the class of one image trains too
    assert {(8, 8, n) for n in range(9)} <= seen
    assert {p for a, p, _ in seen if a == 0} == {0, 1, 2}
    assert {n for a, _, n in seen if a == 0} == set(range(9))


@pytest.mark.parametrize("loss", ["margin", "triplet", "contrastive", "snr"])
def test_the_losses_bear_an_anchor_that_is_its_own_partner(loss):
    x = rows(4).requires_grad_()
    one = torch.tensor([0, 3])
    criterion = select_criterion(loss, n_classes=4, embed_dim=4)
    criterion(x, LABEL, Triplets(one, one, one)).backward()
    assert x.grad.isfinite().all()


def test_only_the_parametric_miner_adapts():
    assert [name for name, cls in MINERS.items() if cls.adapts] == ["parametric"]


def slowly_moved(mass, actions, factors):
    """The authors' update, bin by bin: the mass before it is made to sum to one."""
    moved = []
    for value, action in zip(mass, actions):
        moved.append(min(max(value * factors[action], 1e-25), 1e25))
    return moved


@pytest.mark.parametrize("alpha,beta,mode", [(0.5, 3.0, "uniform"), (1e-4, 1e4, "semihards")])
def test_an_action_multiplies_every_bin_between_the_authors_bounds(alpha, beta, mode):
    miner, seen = select("parametric", mode=mode, alpha=alpha, beta=beta), set()
    mass = miner.log_mass.exp().tolist()
    assert sum(mass) == pytest.approx(1, abs=1e-12)
    for _ in range(30):
        miner.adapt(metrics(0.5))
        actions = miner.past["action"].tolist()
        mass = slowly_moved(mass, actions, [alpha, 1.0, beta])
        assert miner.log_mass.exp().tolist() == pytest.approx(mass, rel=1e-9, abs=0)
        seen |= set(actions)
    assert seen == {0, 1, 2}


def test_no_bin_leaves_the_bounds():
    miner = select("parametric", mode="uniform", alpha=1e-9, beta=1e9)
    reached = False
    for _ in range(20):
        miner.adapt(metrics(0.5))
        mass = miner.log_mass.exp()
        assert mass.min() > 0.99e-25 and mass.max() < 1.01e25
        reached = reached or mass.min() < 1.01e-25 or mass.max() > 0.99e25
    assert reached


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
        before = miner.log_mass.softmax(0)
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
