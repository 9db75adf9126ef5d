"""Every registered miner against its exact selection probabilities, and what all of them
promise."""
import inspect
from collections import Counter
from itertools import combinations

import pytest
import torch
from scipy.stats import chi2
from torch.utils._python_dispatch import TorchDispatchMode

from batchminer import MINERS, Triplets, select
from batchminer.all_triplets import subset
from batchminer.base import ClassBlocks, Quadruplets, add_second_negative, draw
from criteria import select as select_criterion
from tests.oracles import MINER_ORACLES
from utilities.errors import UsageError
from utilities.pairwise import unit

# class 3 has one image
LABEL = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
# 2 3 0 1 0 2 1 0 2
SHUFFLED = LABEL[torch.tensor([5, 8, 0, 3, 1, 6, 4, 2, 7])]
over_miners = pytest.mark.parametrize("name", MINERS)
DRAWS = 1200


def rows(dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(len(LABEL), dim, generator=generator, dtype=torch.float64))


def triplets_of(mined):
    return [tuple(t) for t in torch.stack(mined, 1).tolist()]


def frequencies(miner, x, label=LABEL, anchors=None, draws=DRAWS):
    counts = Counter()
    for _ in range(draws):
        mined = triplets_of(miner(x, label, anchors))
        assert len(set(mined)) == len(mined), "the same triplet twice"
        counts.update(mined)
    return counts


def assert_follows(counts, table, draws=DRAWS, one_per_anchor=True):
    """What has no chance is never drawn, what is certain always. One triplet an anchor: chi-square
    of each anchor's counts (left out counts as an outcome); expected counts below 5 are pooled.
    More: each triplet within 5 sigma."""
    assert {t[0] for t in counts} <= set(range(len(table)))
    for a, chances in enumerate(table):
        outcomes = {(a, *pair): chance for pair, chance in chances.items()}
        drawn = {t: c for t, c in counts.items() if t[0] == a}
        assert set(drawn) <= set(outcomes), f"anchor {a}: drew what has no chance"
        assert {t for t, chance in outcomes.items() if chance * draws > 20} <= set(drawn), (
            f"anchor {a}: unreachable"
        )
        if not one_per_anchor:
            for t, chance in outcomes.items():
                sigma = (draws * chance * (1 - chance)) ** 0.5
                assert abs(drawn.get(t, 0) - draws * chance) <= 5 * sigma + 1e-6, (
                    f"{t}: wrong frequency"
                )
            continue
        pairs = [(drawn.get(t, 0), chance * draws) for t, chance in outcomes.items()]
        pairs.append((draws - sum(drawn.values()), draws * (1 - sum(outcomes.values()))))
        big = [p for p in pairs if p[1] >= 5]
        small = [sum(column) for column in zip(*(p for p in pairs if p[1] < 5))] or [0, 0]
        statistic = sum(
            (c - e) ** 2 / e for c, e in big + ([tuple(small)] if small[1] >= 1 else [])
        )
        freedom = len(big) + (small[1] >= 1) - 1
        assert freedom < 1 or chi2.sf(statistic, freedom) > 1e-4, f"anchor {a}: wrong frequencies"
        assert freedom > 0 or sum(drawn.values()) == draws * bool(outcomes), (
            f"anchor {a}: certain and not drawn"
        )


def keeps_the_class_rule(miner, label, mined):
    """Positives and negatives of the classes that the miner states, and the anchor in neither
    place."""
    anchor, positive, negative = mined[:3]
    for other, rule in ((positive, miner.positive_class), (negative, miner.negative_class)):
        same = label[anchor] == label[other]
        if not (
            (anchor != other).all()
            and {"same": same.all(), "other": not same.any(), "any": True}[rule]
        ):
            return False
    return True


def test_every_miner_has_an_oracle():
    assert set(MINER_ORACLES) == set(MINERS)


@over_miners
@pytest.mark.parametrize("dim", [3, 16])
def test_frequencies_equal_the_exact_probabilities(name, dim):
    x, miner = rows(dim), select(name, seed=1)
    table = MINER_ORACLES[name](x.numpy(), LABEL.tolist())
    assert_follows(frequencies(miner, x), table, one_per_anchor=miner.one_per_anchor)


@over_miners
@pytest.mark.parametrize("anchors", [1, 5, 9])
def test_references_are_candidates_and_no_anchors(name, anchors):
    x, label = rows(4, seed=3), SHUFFLED
    table = MINER_ORACLES[name](x.numpy(), label.tolist(), anchors)
    assert len(table) == anchors
    miner = select(name, seed=1)
    assert_follows(
        frequencies(miner, x, label, anchors), table, one_per_anchor=miner.one_per_anchor
    )


@pytest.mark.parametrize(
    "name,arguments",
    [
        ("all", {"cap": 7}),
        ("all", {"cap": 60}),
        ("all", {"cap": 1}),
        ("distance", {"lower_cutoff": 1.0}),
        ("distance", {"upper_cutoff": 0.9}),
        ("distance", {"upper_cutoff": 2.5}),
        ("multisimilarity", {"eps": 0.0}),
        ("multisimilarity", {"eps": -0.5}),
        ("multisimilarity", {"cap": 8}),
        ("parametric", {"mode": "uniform"}),
        ("parametric", {"mode": "hards"}),
        ("parametric", {"mode": "veryhards"}),
        ("parametric", {"mode": "uniform", "self_regularise": True}),
        ("parametric", {"self_regularise": True, "n_support": 5, "support_lim": (0.2, 1.4)}),
        ("random_distance", {"lower_cutoff": 1.0}),
        ("random_distance", {"upper_cutoff": 0.9}),
        ("rho_distance", {"lower_cutoff": 1.0}),
        ("rho_distance", {"upper_cutoff": 0.9}),
        ("rho_distance", {"cp": 0.7}),
        ("rho_distance", {"cp": 1.0}),
        ("semihard", {"margin": 0.05}),
        ("semihard", {"margin": 1.0}),
    ],
)
def test_arguments_reach_the_probabilities(name, arguments):
    x = rows(3, seed=6)
    table = MINER_ORACLES[name](x.numpy(), LABEL.tolist(), **arguments)
    assert table != MINER_ORACLES[name](x.numpy(), LABEL.tolist())
    miner = select(name, seed=2, **arguments)
    assert_follows(frequencies(miner, x), table, one_per_anchor=miner.one_per_anchor)


@over_miners
def test_classes_are_right_and_anchors_come_as_often_as_stated(name):
    miner, most = select(name, seed=0), 0
    for seed in range(20):
        label = LABEL[torch.randperm(len(LABEL))]
        mined = miner(rows(seed=seed), label)
        assert isinstance(mined, Triplets) and all(
            t.dtype == torch.long and t.ndim == 1 for t in mined
        )
        assert keeps_the_class_rule(miner, label, mined)
        most = max(most, *Counter(mined.anchor.tolist()).values(), 0)
    assert (most == 1) is miner.one_per_anchor


@over_miners
@pytest.mark.parametrize("label", [[4, 4, 4], [0, 1, 2], [0, 0, 1], [1], [0, 0]])
@pytest.mark.parametrize("anchors", [None, 1])
def test_anchors_without_partners_are_left_out(name, label, anchors):
    x = unit(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.25]]))[: len(label)]
    anchors = min(anchors or len(label), len(label))
    table = MINER_ORACLES[name](x.numpy(), label, anchors)
    mined = select(name, seed=0)(x, torch.tensor(label, dtype=torch.long), anchors)
    assert {a for a, row in enumerate(table) if sum(row.values()) > 1 - 1e-9} <= set(
        mined.anchor.tolist()
    )
    assert set(triplets_of(mined)) <= {(a, *pair) for a, row in enumerate(table) for pair in row}
    assert all(t.shape == mined.anchor.shape and t.dtype == torch.long for t in mined)


@over_miners
def test_same_seed_same_draws_and_no_other_randomness(name):
    x = rows(3)
    first, second, other = select(name, seed=3), select(name, seed=3), select(name, seed=4)
    draws = []
    for miner in (first, second, other):
        # the global state plays no part
        torch.manual_seed(len(draws))
        before = torch.get_rng_state()
        draws.append([triplets_of(miner(x, LABEL)) for _ in range(10)])
        assert torch.equal(before, torch.get_rng_state())
    assert draws[0] == draws[1]
    chances = {
        chance for row in MINER_ORACLES[name](x.numpy(), LABEL.tolist()) for chance in row.values()
    }
    # or nothing is left to chance
    assert (draws[0] == draws[2]) is (chances <= {1.0})


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
    # within and across classes
    x[:4, 0], x[4:, 0] = 1, -1
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    arguments = {"upper_cutoff": 3.0} if name.endswith("distance") else {}
    table = MINER_ORACLES[name](x.double().numpy(), label.tolist(), **arguments)
    miner, mined = select(name, seed=0, **arguments), set()
    for _ in range(30):
        triplets = miner(x.to(dtype), label)
        assert keeps_the_class_rule(miner, label, triplets)
        mined.update(triplets_of(triplets))
    assert mined <= {(a, *pair) for a, row in enumerate(table) for pair in row}
    assert {a for a, _, _ in mined} == {a for a, row in enumerate(table) if row}
    # 0 is not above 0; classes of two
    assert bool(mined) is (name not in ("semihard", "intra_random"))


@over_miners
def test_rows_that_are_not_numbers_leave_the_class_rule_alone(name):
    x = rows(3)
    x[4] = torch.nan
    miner = select(name, seed=0)
    for _ in range(5):
        assert keeps_the_class_rule(miner, LABEL, miner(x, LABEL))


@over_miners
def test_mining_carries_no_gradient(name):
    x = rows(3).requires_grad_()
    assert not any(t.requires_grad for t in select(name)(x, LABEL))


@over_miners
def test_seed_is_the_first_argument(name):
    assert list(inspect.signature(MINERS[name]).parameters)[0] == "seed"


@over_miners
def test_every_miner_draws_second_negatives(name):
    miner = select(name, seed=0)
    miner.second_negative = True
    mined = miner(rows(3), LABEL)
    assert (
        isinstance(mined, Quadruplets)
        and len(mined.anchor) > 0
        and keeps_the_class_rule(miner, LABEL, mined)
    )
    second = LABEL[mined.second_negative]
    assert (second != LABEL[mined.anchor]).all() and (second != LABEL[mined.negative]).all()


def test_second_negatives_are_uniform_over_third_classes_and_dropped_where_there_is_none():
    triplets = Triplets(*torch.tensor([[0, 1, 3], [3, 4, 8], [5, 6, 0]]).T)
    generator, counts = torch.Generator().manual_seed(0), Counter()
    for _ in range(DRAWS):
        counts.update(triplets_of(add_second_negative(triplets, LABEL, generator)))
    third = {(0, 1, 3): [5, 6, 7, 8], (3, 4, 8): [0, 1, 2, 5, 6, 7], (5, 6, 0): [3, 4, 8]}
    assert set(counts) == {(*t, n) for t, ns in third.items() for n in ns}
    for t, ns in third.items():
        expected = DRAWS / len(ns)
        assert (
            chi2.sf(sum((counts[*t, n] - expected) ** 2 / expected for n in ns), len(ns) - 1) > 1e-4
        )
    two_classes = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 0])
    assert triplets_of(add_second_negative(triplets, two_classes, generator)) == []
    none = Triplets(*torch.empty(3, 0, dtype=torch.long))
    assert add_second_negative(none, LABEL, generator).second_negative.shape == (0,)


# ---- how they draw


def test_draw_takes_exact_shares_over_hundreds_of_nats_and_never_leaves_the_mask():
    logit = torch.tensor(
        [[0.0, -900.0, 0.0, 700.0, 700.0 + torch.tensor(3.0).log(), 9999.0]]
    ).expand(4000, 6)
    mask = torch.tensor([True, True, True, True, True, False]).expand(4000, 6)
    column, found = draw(mask, torch.Generator().manual_seed(0), logit)
    # shares 1/4 and 3/4
    assert found.all() and set(column.tolist()) == {3, 4}
    assert abs((column == 4).sum().item() - 3000) < 5 * (4000 * 3 / 16) ** 0.5
    column, found = draw(mask & False, torch.Generator(), logit)
    assert not found.any() and (column < 6).all()


@pytest.mark.parametrize("u,expected", [(0.0, 1), (1 - 2**-24, 3)])
def test_the_ends_of_the_random_numbers_stay_in_the_mask(monkeypatch, u, expected):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, u))
    mask = torch.tensor([[False, True, False, True, False]])
    for logit in (None, torch.zeros(1, 5), torch.tensor([[9.0, 0.0, 9.0, 0.0, 9.0]])):
        assert draw(mask, None, logit)[0].tolist() == [expected]


@pytest.mark.parametrize("anchors", [None, 4])
def test_blocks_enumerate_positives_and_negatives(anchors):
    blocks = ClassBlocks(SHUFFLED, anchors)
    for a in range(anchors or 9):
        same = [j for j in range(9) if j != a and SHUFFLED[j] == SHUFFLED[a]]
        other = [j for j in range(9) if SHUFFLED[j] != SHUFFLED[a]]
        row = torch.full((9,), a)
        assert (blocks.positives[a], blocks.negatives[a]) == (len(same), len(other))
        assert sorted(blocks.positive(torch.arange(len(same)), row[: len(same)]).tolist()) == same
        assert (
            sorted(blocks.negative(torch.arange(len(other)), row[: len(other)]).tolist()) == other
        )


# cut permutations, collected draws
@pytest.mark.parametrize("total,size", [(5, 2), (9, 2), (13, 3), (3, 3)])
def test_subsets_are_uniform(total, size):
    generator, draws = torch.Generator().manual_seed(0), 6000
    counts = Counter(tuple(sorted(subset(total, size, generator).tolist())) for _ in range(draws))
    sets = list(combinations(range(total), size))
    assert set(counts) <= set(sets)
    statistic = sum((counts[s] - draws / len(sets)) ** 2 / (draws / len(sets)) for s in sets)
    assert len(sets) == 1 or chi2.sf(statistic, len(sets) - 1) > 1e-4


# ---- one miner alone


def test_distance_weights_are_finite_over_the_whole_range():
    for dim in (2, 3, 128, 2048):
        logit = select("distance").log_inverse_density(torch.linspace(0, 2, 201).square(), dim)
        assert torch.isfinite(logit).all()


def test_distance_honours_both_cutoffs():
    # on a circle; chords 2 sin(angle/2)
    angle = torch.tensor([0.0, 0.05, 0.1, 0.45, 1.5, 1.6])
    flat = torch.stack([angle.cos(), angle.sin()], 1)
    x = torch.cat([flat, torch.zeros(6, 6)], 1)  # (6, 8)
    label = torch.tensor([0, 0, 1, 1, 1, 2])
    counts = Counter(
        n
        for a, _, n in frequencies(
            select("distance", lower_cutoff=0.5, upper_cutoff=1.4), x, label
        ).elements()
        if a == 0
    )
    # chord 1.43 to row 5: beyond
    assert set(counts) == {2, 3, 4}
    # chords .1 and .447 count as .5
    assert abs(counts[2] - counts[3]) < 5 * (counts[2] + counts[3]) ** 0.5
    wide = frequencies(select("distance", lower_cutoff=0.01, upper_cutoff=1.45), x, label)
    nearest = Counter(n for a, _, n in wide.elements() if a == 0)
    # now .1 is 4.5^6 times likelier
    assert nearest[2] > 0.99 * DRAWS


def test_distance_beyond_the_cutoff_draws_any_negative():
    x, label = torch.eye(4).repeat_interleave(2, 0), torch.arange(4).repeat_interleave(2)
    # all negatives at 1.414
    counts = frequencies(select("distance", upper_cutoff=1.2), x, label)
    assert_follows(counts, MINER_ORACLES["random"](x.numpy(), label.tolist()))


@pytest.mark.parametrize(
    "name", ["distance", "multisimilarity", "parametric", "random_distance", "rho_distance"]
)
def test_rows_are_normalised(name):
    x, label = rows(3), LABEL
    scaled = x * torch.linspace(0.1, 9, len(label), dtype=torch.float64)[:, None]
    assert triplets_of(select(name, seed=5)(x, label)) == triplets_of(
        select(name, seed=5)(scaled, label)
    )


def test_rho_distance_pushes_apart_what_it_does_not_pull():
    miner = select("rho_distance", seed=0, cp=1.0)
    anchor, positive, negative = miner(rows(3), LABEL)
    # class 1 has only two images
    assert ((positive != negative) | (LABEL[anchor] == 1)).all()


def test_all_stays_small_where_there_are_billions():
    # 2000 x 99 x 1900 = 376 million
    label = torch.arange(2000) % 20
    anchor, positive, negative = mined = select("all", seed=0)(torch.zeros(2000, 1), label)
    assert len(anchor) == 65536 == len(set(triplets_of(mined)))
    assert keeps_the_class_rule(select("all"), label, mined) and len(anchor.unique()) == 2000


def test_batch_hard_and_multisimilarity_agree_with_pytorch_metric_learning():
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    for seed in range(5):
        x = rows(5, seed).float()
        assert set(triplets_of(select("batch_hard")(x, LABEL))) == set(
            triplets_of(miners.BatchHardMiner()(x, LABEL))
        )
        ours = select("multisimilarity")(x, LABEL)
        a, p, b, n = (t.tolist() for t in miners.MultiSimilarityMiner()(x, LABEL))
        assert {t[:2] for t in triplets_of(ours)} == set(zip(a, p))
        assert {(t[0], t[2]) for t in triplets_of(ours)} == set(zip(b, n))


def test_batch_hard_takes_the_first_of_equals():
    x = torch.tensor([[0.0], [1.0], [1.0], [3.0], [3.0]])
    assert triplets_of(select("batch_hard")(x, torch.tensor([0, 0, 0, 1, 1]))) == [
        (0, 1, 3),
        (1, 0, 3),
        (2, 0, 3),
        (3, 4, 1),
        (4, 3, 1),
    ]


class Operations(TorchDispatchMode):
    """Counts tensor operations."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name,most", [("random", 40), ("distance", 65)])
def test_operations_do_not_grow_with_the_batch(name, most):
    for size in (112, 512):
        x, label, miner = torch.randn(size, 8), torch.arange(size) // 4, select(name)
        with Operations() as operations:
            miner(x, label)
        assert operations.count <= most


def test_select_and_constructors_refuse_with_a_sentence():
    with pytest.raises(UsageError, match="--batch_mining distanec.*distance"):
        select("distanec", seed=0)
    for lower, upper in ((1.5, 1.4), (0.0, 1.4)):
        for name in ("distance", "random_distance", "rho_distance"):
            with pytest.raises(UsageError, match="lower_cutoff"):
                select(name, lower_cutoff=lower, upper_cutoff=upper)
    for name, arguments in (
        ("rho_distance", {"cp": 1.1}),
        ("all", {"cap": 0}),
        ("multisimilarity", {"cap": 0}),
        ("parametric", {"support_lim": (1.4, 0.1)}),
        ("parametric", {"n_support": 2}),
        ("parametric", {"mode": "semihard"}),
    ):
        with pytest.raises(UsageError, match=next(iter(arguments))):
            select(name, **arguments)


def test_margin_loss_with_distance_mining_takes_under_120_operations():
    """Forward and backward at batch 112 (the base framework 7,214, pytorch-metric-learning
    1,051)."""
    x, label = unit(torch.randn(112, 128)).requires_grad_(), torch.arange(112) // 4
    miner, criterion = select("distance"), select_criterion("margin", n_classes=28, embed_dim=128)
    with Operations() as operations:
        torch.autograd.grad(criterion(x, label, miner(x, label)), [x, criterion.beta])
    assert operations.count < 120


@over_miners
@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int32])
def test_labels_of_any_whole_type_are_mined_alike(name, kind):
    mined = [select(name, seed=0)(rows(), (LABEL > 1).to(one)) for one in (kind, torch.long)]
    assert all(map(torch.equal, *mined))
