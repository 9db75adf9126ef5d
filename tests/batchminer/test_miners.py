"""Every registered miner against its exact selection probabilities, and what all of them promise."""
import inspect
from collections import Counter

import pytest
import torch
from scipy.stats import chi2

from batchminer import MINERS, Triplets, select
from tests.oracles import MINER_ORACLES
from utilities.errors import UsageError
from utilities.pairwise import unit

LABEL = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])                                  # class 3 has one image
over_miners = pytest.mark.parametrize("name", MINERS)
DRAWS = 1200


def rows(dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(len(LABEL), dim, generator=generator, dtype=torch.float64))


def triplets_of(mined):
    return [tuple(t) for t in torch.stack(mined, 1).tolist()]


def frequencies(miner, x, label=LABEL, draws=DRAWS):
    mined = torch.cat([torch.stack(miner(x, label), 1) for _ in range(draws)])     # (draws * T, 3)
    return Counter(map(tuple, mined.tolist()))


def assert_follows(counts, table, draws=DRAWS):
    """Chi-square of each anchor's counts (left out counts as an outcome); expected counts below 5 are pooled."""
    for a, chances in enumerate(table):
        outcomes = {(a, *pair): chance for pair, chance in chances.items()}
        drawn = {t: c for t, c in counts.items() if t[0] == a}
        assert set(drawn) <= set(outcomes), f"anchor {a}: drew what has no chance"
        assert {t for t, chance in outcomes.items() if chance * draws > 20} <= set(drawn), f"anchor {a}: unreachable"
        pairs = [(drawn.get(t, 0), chance * draws) for t, chance in outcomes.items()]
        pairs.append((draws - sum(drawn.values()), draws * (1 - sum(outcomes.values()))))
        big = [p for p in pairs if p[1] >= 5]
        small = [sum(column) for column in zip(*(p for p in pairs if p[1] < 5))] or [0, 0]
        statistic = sum((c - e) ** 2 / e for c, e in big + ([tuple(small)] if small[1] >= 1 else []))
        freedom = len(big) + (small[1] >= 1) - 1
        assert freedom < 1 or chi2.sf(statistic, freedom) > 1e-4, f"anchor {a}: wrong frequencies"


def test_every_miner_has_an_oracle():
    assert set(MINER_ORACLES) == set(MINERS)


@over_miners
@pytest.mark.parametrize("dim", [3, 16])
def test_frequencies_equal_the_exact_probabilities(name, dim):
    x = rows(dim)
    assert_follows(frequencies(select(name, seed=1), x), MINER_ORACLES[name](x.numpy(), LABEL.tolist()))


@pytest.mark.parametrize("name,arguments", [
    ("semihard", {"margin": 0.05}), ("semihard", {"margin": 1.0}),
    ("distance", {"lower_cutoff": 1.0}), ("distance", {"upper_cutoff": 0.9}), ("distance", {"upper_cutoff": 2.5})])
def test_arguments_reach_the_probabilities(name, arguments):
    x = rows(3, seed=4)
    table = MINER_ORACLES[name](x.numpy(), LABEL.tolist(), **arguments)
    assert table != MINER_ORACLES[name](x.numpy(), LABEL.tolist())
    assert_follows(frequencies(select(name, seed=2, **arguments), x), table)


@over_miners
def test_labels_are_right_and_every_anchor_comes_once(name):
    miner = select(name, seed=0)
    for seed in range(20):
        label = LABEL[torch.randperm(len(LABEL))]
        mined = miner(rows(seed=seed), label)
        assert isinstance(mined, Triplets) and all(t.dtype == torch.long for t in mined)
        anchor, positive, negative = mined
        assert (label[anchor] == label[positive]).all() and (label[anchor] != label[negative]).all()
        assert (anchor != positive).all() and len(anchor.unique()) == len(anchor)


@over_miners
@pytest.mark.parametrize("label", [[4, 4, 4], [0, 1, 2], [0, 0, 1]])
def test_anchors_without_partners_are_left_out(name, label):
    label = torch.tensor(label)
    x = unit(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.25]]))
    admissible = {i for i in range(3) if (label == label[i]).sum() > 1 and (label != label[i]).any()}
    mined = select(name, seed=0)(x, label)
    assert set(mined.anchor.tolist()) == admissible
    assert all(t.shape == (len(admissible),) for t in mined)


@over_miners
def test_same_seed_same_draws_and_no_other_randomness(name):
    x = rows(3)
    first, second, other = select(name, seed=3), select(name, seed=3), select(name, seed=4)
    draws = []
    for miner in (first, second, other):
        torch.manual_seed(len(draws))                                              # the global state plays no part
        before = torch.get_rng_state()
        draws.append([triplets_of(miner(x, LABEL)) for _ in range(10)])
        assert torch.equal(before, torch.get_rng_state())
    assert draws[0] == draws[1] != draws[2]


@over_miners
def test_state_resumes_the_draws(name):
    x, miner = rows(3), select(name, seed=3)
    for _ in range(3):
        miner(x, LABEL)
    state = miner.state_dict()
    expected = [triplets_of(miner(x, LABEL)) for _ in range(10)]
    fresh = select(name, seed=99)
    fresh.load_state_dict(state)
    assert [triplets_of(fresh(x, LABEL)) for _ in range(10)] == expected


@over_miners
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_distances_of_zero_and_two_in_every_precision(name, dtype):
    x = torch.zeros(6, 512)
    x[:4, 0], x[4:, 0] = 1, -1                                                     # within and across classes
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    arguments = {"upper_cutoff": 3.0} if name == "distance" else {}
    miner, mined = select(name, seed=0, **arguments), []
    for _ in range(30):
        mined += triplets_of(miner(x.to(dtype), label))
    assert all(label[a] == label[p] and a != p and label[a] != label[n] for a, p, n in mined)
    if name == "semihard":
        assert not mined                                                           # 0 is not above 0, 2 is too far
    else:
        assert {a for a, _, _ in mined} == set(range(6))


def test_distance_weights_are_finite_over_the_whole_range():
    for dim in (2, 3, 128, 2048):
        logit = select("distance").log_inverse_density(torch.linspace(0, 2, 201), dim)
        assert torch.isfinite(logit).all()


def test_distance_honours_both_cutoffs():
    angle = torch.tensor([0.0, 0.05, 0.1, 0.45, 1.5, 1.6])                         # on a circle; chords 2 sin(angle/2)
    flat = torch.stack([angle.cos(), angle.sin()], 1)
    x = torch.cat([flat, torch.zeros(6, 6)], 1)                                    # (6, 8)
    label = torch.tensor([0, 0, 1, 1, 1, 2])
    counts = Counter(n for a, _, n in frequencies(select("distance", lower_cutoff=0.5, upper_cutoff=1.4), x, label)
                     .elements() if a == 0)
    assert set(counts) == {2, 3, 4}                                                # chord 1.43 to row 5: beyond
    assert abs(counts[2] - counts[3]) < 5 * (counts[2] + counts[3]) ** 0.5         # chords .1 and .447 count as .5
    wide = frequencies(select("distance", lower_cutoff=0.01, upper_cutoff=1.45), x, label)
    nearest = Counter(n for a, _, n in wide.elements() if a == 0)
    assert nearest[2] > 0.99 * DRAWS                                               # now .1 is 4.5^6 times likelier


def test_distance_beyond_the_cutoff_draws_any_negative():
    x, label = torch.eye(4).repeat_interleave(2, 0), torch.arange(4).repeat_interleave(2)
    counts = frequencies(select("distance", upper_cutoff=1.2), x, label)           # all negatives at 1.414
    assert_follows(counts, MINER_ORACLES["random"](x.numpy(), label.tolist()))


def test_distance_normalises_the_rows():
    x, label = rows(3), LABEL
    scaled = x * torch.linspace(0.1, 9, len(label), dtype=torch.float64)[:, None]
    assert triplets_of(select("distance", seed=5)(x, label)) == triplets_of(select("distance", seed=5)(scaled, label))


@over_miners
def test_mining_carries_no_gradient(name):
    x = rows(3).requires_grad_()
    assert not any(t.requires_grad for t in select(name)(x, LABEL))


def test_select_and_constructor_refuse_with_a_sentence():
    with pytest.raises(UsageError, match="--batch_mining distanec.*distance"):
        select("distanec", seed=0)
    for lower, upper in ((1.5, 1.4), (0.0, 1.4)):
        with pytest.raises(UsageError, match="--miner_distance_lower_cutoff"):
            select("distance", lower_cutoff=lower, upper_cutoff=upper)


@over_miners
def test_seed_is_the_first_argument(name):
    assert list(inspect.signature(MINERS[name]).parameters)[0] == "seed"
