"""Losses over given tuples: values by hand, what each weight scales, other libraries, and defects
of others."""
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from batchminer.base import Quadruplets, Triplets
from criteria import PairWeights, select
from parameters import get_options
from tests.criteria.test_criteria import VARIANTS, batch, build, random_weights
from training.building import build_method, build_miner, build_network
from utilities.errors import UsageError

NAMES = ("contrastive", "triplet", "npair", "angular", "snr", "quadruplet")
LABEL = torch.tensor([0, 0, 1, 2])
# squared: 0-1 1, 0-2 4, 2-3 2
ROWS = torch.tensor([[2.0, 0], [2, 1], [0, 0], [1, 1]], dtype=torch.float64)
LENGTHS = (2 + math.sqrt(5) + 0 + math.sqrt(2)) / 4


def tuples(*rows):
    return (Quadruplets if len(rows[0]) == 4 else Triplets)(*torch.tensor(rows).T)


def value(name, given, weight=None, rows=ROWS, label=LABEL, anchors=None, **arguments):
    criterion = select(name, n_classes=3, embed_dim=2, **arguments)
    return criterion(rows, label, given, weight, anchors).item()


# d_ap = 1; d_an = 2 and sqrt 2
TWO = tuples((0, 1, 2), (0, 1, 3))


@pytest.mark.parametrize(
    "name,given,arguments,expected",
    [
        ("contrastive", TWO, {}, 1),
        (
            "contrastive",
            TWO,
            {"pos_margin": 0.25, "neg_margin": 1.5},
            0.75 + (1.5 - math.sqrt(2)) / 2,
        ),
        ("contrastive", TWO, {"neg_margin": 1.5, "avg_nonzero": True}, 1 + 1.5 - math.sqrt(2)),
        ("triplet", TWO, {"margin": 2.0}, 1 / 2),
        ("triplet", TWO, {"margin": 2.0, "avg_nonzero": True}, 1),
        ("triplet", TWO, {"margin": 0.5, "euclidean": True}, (1.5 - math.sqrt(2)) / 2),
        (
            "triplet",
            TWO,
            {"soft_margin": True},
            (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-1))) / 2,
        ),
        (
            "npair",
            tuples((0, 1, 2)),
            {},
            math.log(1 + math.exp(0 - 4) + math.exp(2 - 4)) + 0.005 * LENGTHS,
        ),
        # no other pair, no negative
        ("npair", tuples((0, 1, 2)), {"l2": 0.0, "multiclass": True}, 0),
        # variances 1, 1/4, 1, 1: not active
        ("snr", TWO, {}, 0.005 * 2),
        ("snr", TWO, {"margin": 1.0, "reg_lambda": 0.0}, 0.25),
        (
            "quadruplet",
            tuples((0, 1, 2, 3)),
            {"margin_alpha_1": 2.0, "margin_alpha_2": 1.0},
            1 + 2 - math.sqrt(2),
        ),
        (
            "quadruplet",
            tuples((0, 1, 2, 3)),
            {"margin_alpha_1": 4.0, "margin_alpha_2": 3.0, "squared": True},
            1 + 2,
        ),
    ],
)
def test_values_by_hand(name, given, arguments, expected):
    assert value(name, given, **arguments) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_angular_by_hand():
    """alpha 45: t = 1; u_a = (1, 0), u_p = (.6, .8), u_n = (0, 1): exponent 4 * .8 - 4 * .6, of s:
    0 - 5 * 6."""
    rows, label = (
        torch.tensor([[5.0, 0], [6, 8], [0, 3]], dtype=torch.float64),
        torch.tensor([0, 0, 1]),
    )
    angular, npair, length = (
        math.log(1 + math.exp(0.8)),
        math.log(1 + math.exp(-30)),
        (5 + 10 + 3) / 3,
    )
    given = {"given": tuples((0, 1, 2)), "rows": rows, "label": label}
    assert value("angular", angular_only=True, **given) == pytest.approx(angular, rel=1e-12)
    assert value("angular", **given) == pytest.approx(
        npair + 2 * angular + 0.005 * length, rel=1e-12
    )


# on the part of the positive pair, of the negative, of both
@pytest.mark.parametrize(
    "name,given,arguments,factor",
    [
        (
            "contrastive",
            tuples((0, 1, 3)),
            {"neg_margin": 2.0},
            lambda p, n: p * 1 + n * (2 - math.sqrt(2)),
        ),
        ("triplet", tuples((0, 1, 3)), {"margin": 2.0}, lambda p, n: p * n * 1),
        ("snr", tuples((0, 1, 3)), {"margin": 1.0}, lambda p, n: p * n * 0.25 + 0.01),
        (
            "npair",
            tuples((0, 1, 3)),
            {"l2": 0.0},
            lambda p, n: p * math.log(1 + n * (math.exp(-4) + math.exp(-2))),
        ),
        (
            "quadruplet",
            tuples((0, 1, 2, 3)),
            {"margin_alpha_1": 2.0, "margin_alpha_2": 1.0},
            lambda p, n: p * n * (3 - math.sqrt(2)),
        ),
    ],
)
def test_what_each_weight_scales(name, given, arguments, factor):
    weight = PairWeights(
        *torch.tensor([3.0, 0.5], dtype=torch.float64)[:, None, None].expand(2, 4, 1)
    )
    assert value(name, given, weight, **arguments) == pytest.approx(factor(3, 0.5), rel=1e-12)


@pytest.mark.parametrize(
    "name,arguments",
    [
        ("contrastive", {"avg_nonzero": True}),
        ("snr", {"reg_lambda": 0.0}),
        ("triplet", {"avg_nonzero": True}),
    ],
)
def test_active_terms_are_counted_without_the_weights(name, arguments):
    x, label, triplets = batch("mixed sizes", name)
    tenth = PairWeights(torch.full((len(label), 1), 0.1), torch.full((len(label), 1), 1.0))
    if name == "contrastive":
        tenth = PairWeights(tenth.positive, tenth.positive)
    criterion = build(name, arguments=arguments)
    torch.testing.assert_close(
        criterion(x, label, triplets, tenth), 0.1 * criterion(x, label, triplets), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(
    "name,arguments", [(name, arguments) for name in NAMES for arguments in VARIANTS[name]]
)
def test_references_are_rows_like_any_other_but_never_anchors(name, arguments):
    """With the anchors of the first rows only, the loss of a batch with references is the loss of
    one large batch."""
    # its mean runs over the batch alone
    regulariser = {"npair": "l2", "angular": "npair_l2"}.get(name)
    criterion = build(name, arguments=arguments | ({regulariser: 0.0} if regulariser else {}))
    x, label, given = batch("mixed sizes", name)
    given = type(given)(*(t[given.anchor < 4] for t in given))
    assert any((t >= 4).any() for t in given)
    x.requires_grad_()
    for columns in (1, len(label)):
        weight = random_weights(len(label), columns)
        whole = criterion(x, label, given, weight)
        split = criterion(x, label, given, PairWeights(*(w[:4] for w in weight)), 4)
        torch.testing.assert_close(split, whole, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(
            *(torch.autograd.grad(loss, x)[0] for loss in (split, whole)), rtol=1e-10, atol=1e-14
        )


@pytest.mark.parametrize("name,flag", [("npair", "l2"), ("angular", "npair_l2")])
def test_lengths_are_those_of_the_batch_not_of_the_references(name, flag):
    given = tuples((0, 1, 2))
    added = [
        value(name, given, anchors=anchors, **{flag: 1.0})
        - value(name, given, anchors=anchors, **{flag: 0.0})
        for anchors in (None, 2)
    ]
    assert added == pytest.approx([LENGTHS, (2 + math.sqrt(5)) / 2], rel=1e-12)


@pytest.mark.parametrize("name", ["npair", "angular"])
def test_given_negatives_are_not_read_and_repeated_pairs_count_again(name):
    x, label, _ = batch("labels with gaps", name)
    once, again, other = (
        build(name)(x, label, tuples(*rows)).item()
        for rows in ([(0, 1, 2), (2, 4, 0)], [(0, 1, 3), (0, 1, 2), (2, 4, 1)], [(2, 4, 0)])
    )
    first = 2 * once - other
    assert again == pytest.approx((2 * first + other) / 3, rel=1e-12)


def test_multiclass_npair_is_a_cross_entropy_over_one_pair_of_each_class():
    x, label, _ = batch("mixed sizes", "npair")
    given = tuples((1, 0, 3), (3, 4, 0), (8, 5, 0))
    logit = x[given.anchor] @ x[given.positive].T  # (3, 3)
    ours = build("npair", arguments={"multiclass": True, "l2": 0.0})(x, label, given)
    torch.testing.assert_close(ours, cross_entropy(logit, torch.arange(3)), rtol=1e-12, atol=1e-12)


def test_angular_term_does_not_know_the_scale_and_survives_wide_angles():
    x, label, triplets = batch("mixed sizes", "angular")
    scale = torch.linspace(0.5, 3, len(label), dtype=torch.float64)[:, None]
    criterion = build("angular", arguments={"angular_only": True})
    torch.testing.assert_close(criterion(scale * x, label, triplets), criterion(x, label, triplets))
    x = x.float().requires_grad_()
    # exponents of thousands
    loss = build("angular", arguments={"alpha": 89.0})(x, label, triplets)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


def test_snr_without_an_active_triplet_or_without_variance_is_no_nan():
    x = torch.tensor(
        [[1.0, 1, 1], [3, 1, 0], [0, 2, 5], [1, 1, 1]], dtype=torch.float64, requires_grad=True
    )
    label, given = torch.tensor([0, 0, 1, 1]), tuples((0, 1, 2), (1, 0, 2), (3, 2, 0))
    loss = select("snr", n_classes=2, embed_dim=3, reg_lambda=0.0)(x, label, given)
    (gradient,) = torch.autograd.grad(loss, x)
    # rows 0 and 3 have no variance
    assert loss.item() == 0 and torch.equal(gradient, torch.zeros_like(x))
    active = select("snr", n_classes=2, embed_dim=3, margin=9.0, reg_lambda=0.0)(x, label, given)
    variances = [torch.var(row, correction=0) for row in (x[1] - x[0], x[1] - x[2], x[1])]
    torch.testing.assert_close(active, (variances[0] - variances[1]) / variances[2] + 9)
    one_feature = select("snr", n_classes=2, embed_dim=1)(x[:, :1], label, given)
    assert one_feature.item() == pytest.approx(0.005 * 5 / 3)


@pytest.mark.parametrize("squared", [False, True])
def test_quadruplet_of_coinciding_negatives_is_differentiable(squared):
    x = ROWS.clone()
    x[3] = x[2]
    x.requires_grad_()
    loss = select("quadruplet", n_classes=3, embed_dim=2, squared=squared)(
        x, LABEL, tuples((0, 1, 2, 3))
    )
    loss.backward()
    assert loss.item() == pytest.approx(1.2) and torch.isfinite(x.grad).all()


def test_what_cannot_work_is_refused():
    with pytest.raises(UsageError, match="quadruplets"):
        select("quadruplet", n_classes=3, embed_dim=2)(ROWS, LABEL, TWO)
    for arguments in ({"avg_nonzero": True}, {"margin": 0.5}):
        with pytest.raises(UsageError, match="--loss_triplet_soft_margin"):
            select("triplet", n_classes=3, embed_dim=2, soft_margin=True, **arguments)


@pytest.mark.parametrize("seed", range(3))
def test_equal_pytorch_metric_learning(seed):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning.distances import DotProductSimilarity, LpDistance, SNRDistance
    from pytorch_metric_learning.reducers import MeanReducer

    squared, snr = LpDistance(power=2), SNRDistance(normalize_embeddings=False)
    x, label, triplets = batch("mixed sizes", seed=seed)
    one_each, dot = (
        tuples((1, 2, 3), (3, 4, 0), (8, 5, 0)),
        DotProductSimilarity(normalize_embeddings=False),
    )
    for name, arguments, theirs in (
        ("contrastive", {"avg_nonzero": True}, losses.ContrastiveLoss()),
        (
            "contrastive",
            {"neg_margin": 1.4},
            losses.ContrastiveLoss(neg_margin=1.4, reducer=MeanReducer()),
        ),
        ("triplet", {}, losses.TripletMarginLoss(0.2, distance=squared, reducer=MeanReducer())),
        ("triplet", {"avg_nonzero": True}, losses.TripletMarginLoss(0.2, distance=squared)),
        ("triplet", {"avg_nonzero": True, "euclidean": True}, losses.TripletMarginLoss(0.2)),
        (
            "triplet",
            {"soft_margin": True, "euclidean": True},
            losses.TripletMarginLoss(0, smooth_loss=True),
        ),
        ("snr", {"reg_lambda": 0.0}, losses.TripletMarginLoss(0.2, distance=snr)),
        ("angular", {"angular_only": True, "alpha": 40.0}, losses.AngularLoss()),
        ("npair", {"multiclass": True, "l2": 0.0}, losses.NPairsLoss(distance=dot)),
    ):
        given = one_each if name == "npair" else triplets
        ours = build(name, arguments=arguments)(x, label, given)
        torch.testing.assert_close(
            ours, theirs(x, label, tuple(given)), rtol=1e-9, atol=1e-12, msg=name
        )


def test_main_mines_second_negatives_for_the_loss_that_needs_them():
    for name, form in (("quadruplet", Quadruplets), ("triplet", Triplets)):
        opt = get_options(["--loss", name, "--xbm_size", "8"])
        method, miner = build_method(opt, build_network(opt), 3), build_miner(opt)
        x, label, _ = batch("mixed sizes")
        mined = miner(x, label)
        assert type(mined) is form and method.base.needs_quadruplets == miner.second_negative
        assert method.xbm.miner.second_negative == miner.second_negative
        assert torch.isfinite(method.base(x, label, mined))
        assert all(
            len({*row.tolist()}) == len(form._fields) - 1 for row in label[torch.stack(mined, 1)]
        )
