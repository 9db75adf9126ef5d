"""Losses over the pairs of a whole batch: values by hand, closed forms, the library's, and
references."""
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from batchminer.base import Quadruplets, Triplets
from criteria import PairWeights, select
from criteria.histogram import Histogram
from parameters import get_options
from tests.oracles import ORACLES
from training.building import build_method, build_miner, build_network
from utilities.errors import UsageError
from utilities.pairwise import unit


def rows(number, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(number, dim, generator=generator, dtype=torch.float64))


def angles(*degrees):
    """Unit rows in the plane."""
    radians = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], 1)


def make(name, dim=2, **arguments):
    return select(name, n_classes=6, embed_dim=dim, **arguments).double()


# ---- by hand


def test_lifted_by_hand():
    """Rows at 0, 3 (class 0) and 1 (class 1) on a line; the third has no positive, so two anchors
    count."""
    x, label = torch.tensor([[0.0], [3.0], [1.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    first, second = 3 + (1 - 1), 3 + (1 - 2)
    assert make("lifted", l2=0)(x, label).item() == pytest.approx((first + second) / 2, rel=1e-12)
    assert make("lifted", l2=0.3)(x, label).item() == pytest.approx(
        3 + 0.3 * 4 / 3 - 0.5, rel=1e-12
    )
    assert make("lifted", neg_margin=-9.0, l2=0)(x, label).item() == 0
    doubled = PairWeights(torch.full((3, 1), 2.0), torch.ones(3, 1))
    assert make("lifted", l2=0)(x, label, None, doubled).item() == pytest.approx(
        2.5 + math.log(2), rel=1e-12
    )


def test_histogram_by_hand():
    """Three nodes -1, 0, 1. Positive pair at cos 60 = 1/2: half to 0, half to 1. Negative pairs at
    cos 120 = -1/2 and cos 180 = -1: 3/4 to -1 and 1/4 to 0. Up to node 0 lies half the positive
    mass, so L = 1/4 * 1/2."""
    x, label = angles(0, 60, 180), torch.tensor([0, 0, 1])
    assert make("histogram", nbins=3)(x, label).item() == pytest.approx(1 / 8, rel=1e-12)
    only_near = PairWeights(torch.ones(3, 3), torch.tensor([[0, 0, 0], [0, 0, 2], [0, 5.0, 0]]))
    assert make("histogram", nbins=3)(x, label, None, only_near).item() == pytest.approx(
        1 / 4, rel=1e-12
    )


def test_circle_by_hand():
    """At m = 0.25, gamma = 2: s_p = 0.5 has pace 0.75, s_n = 0 has pace 0.25: both away by -0.25 of
    their goals."""
    x, label = angles(0, 60, 90), torch.tensor([0, 0, 1])
    first = math.log1p(math.exp(2 * 0.75 * 0.25) * math.exp(-2 * 0.25 * 0.25))
    s = math.cos(math.pi / 6)
    second = math.log1p(math.exp(2 * 0.75 * 0.25) * math.exp(2 * (s + 0.25) * (s - 0.25)))
    assert make("circle", margin=0.25, gamma=2.0)(x, label).item() == pytest.approx(
        (first + second) / 2, rel=1e-12
    )


def test_supcon_by_hand():
    """One positive each: the cross-entropy of finding it among the others; the third image has
    none."""
    x, label = angles(0, 60, 90), torch.tensor([0, 0, 1])
    first = -math.log(math.exp(5) / (math.exp(5) + 1))
    second = -math.log(math.exp(5) / (math.exp(5) + math.exp(10 * math.cos(math.pi / 6))))
    assert make("supcon")(x, label).item() == pytest.approx((first + second) / 2, rel=1e-12)
    no_negatives = PairWeights(torch.ones(3, 1), torch.zeros(3, 1))
    assert make("supcon")(x, label, None, no_negatives).item() == pytest.approx(0, abs=1e-12)


def test_supcon_with_one_positive_is_cross_entropy():
    x, label = rows(8), torch.arange(4).repeat(2)
    logit = (x @ x.T / 0.2).fill_diagonal_(-torch.inf)
    expected = torch.nn.functional.cross_entropy(logit, torch.arange(8).roll(4))
    torch.testing.assert_close(
        make("supcon", temperature=0.2)(x, label), expected, rtol=1e-12, atol=0
    )


def test_the_pull_of_circle_grows_with_the_distance_from_the_goal():
    """dl_i/ds_in = sigmoid(l's argument) softmax_n gamma a_in, with nothing for the derivative of
    the pace."""
    x, label, m, g = rows(3, seed=4).requires_grad_(), torch.tensor([0, 0, 1]), 0.25, 3.0
    s = (x @ x.T).detach()
    p, n = s[0, 1], s[0, 2]
    a_p, a_n = 1 + m - p, torch.relu(n + m)
    share = torch.sigmoid(-g * a_p * (p - 1 + m) + g * a_n * (n - m))
    # through x_0, as the anchor
    expected = share * g * (a_n * x[2] - a_p * x[1])
    loss = make("circle", margin=m, gamma=g)(x, label, anchors=1)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0][0], expected.detach())


# ---- the library


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_batch_losses_equal_pytorch_metric_learning():
    """On batches without singletons (the library's histograms drop their pairs), over every anchor,
    also at zero."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.reducers import MeanReducer

    label = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    plain = {"distance": LpDistance(normalize_embeddings=False), "reducer": MeanReducer()}
    for seed in range(3):
        x = rows(len(label), seed=seed)
        for ours, theirs in (
            (
                make("lifted", neg_margin=0.4, l2=0),
                losses.GeneralizedLiftedStructureLoss(neg_margin=0.4, **plain),
            ),
            (make("circle"), losses.CircleLoss(reducer=MeanReducer())),
            (
                make("circle", margin=0.25, gamma=16.0),
                losses.CircleLoss(0.25, 16, reducer=MeanReducer()),
            ),
            (make("supcon"), losses.SupConLoss(reducer=MeanReducer())),
            (make("histogram"), losses.HistogramLoss(n_bins=64)),
        ):
            a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
            one, other = ours(a, label), theirs(b, label)
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
            one.backward()
            other.backward()
            # theirs normalises x
            tangential = [g - (g * x).sum(1, keepdim=True) * x for g in (a.grad, b.grad)]
            torch.testing.assert_close(*tangential, rtol=1e-6, atol=1e-8)


# ---- histogram


@pytest.mark.parametrize("nbins", [2, 3, 65])
def test_bins_are_the_triangular_kernel(nbins):
    """Value and slope at nodes, halfway, at the ends and beyond; at a node the slope is the mean of
    both sides."""
    width, eps = 2 / (nbins - 1), np.finfo(float).eps
    nodes = [-1 + r * width for r in range(nbins)]
    points = [
        *nodes,
        *((a + b) / 2 for a, b in pairwise(nodes)),
        -1 - eps,
        1 + eps,
        -1 - 0.3 * width,
        1 + 0.3 * width,
        1 + 2 * width,
        -1 - 7 * width,
        0.123,
        -0.987,
    ]

    def kernel(s):
        return torch.tensor([max(0.0, 1 - abs(s - t) / width) for t in nodes], dtype=torch.float64)

    module = Histogram(nbins)
    for point in points:
        s, one, first = (
            torch.full((1, 1), point, dtype=torch.float64),
            torch.ones(1, 1),
            torch.zeros(1, 1).bool(),
        )
        value = module.sums(s, one, first)
        sums = partial(module.sums, weight=one, second=first)
        slope = torch.autograd.functional.jacobian(sums, s)[..., 0, 0]
        torch.testing.assert_close(value[0], kernel(point), rtol=1e-12, atol=1e-12)
        assert not value[1].any() and not slope[1].any()
        # differences straddle the end there
        if abs(point) not in (1 - eps, 1 + eps):
            step = 1e-6 * width
            expected = (kernel(point + step) - kernel(point - step)) / (2 * step)
            torch.testing.assert_close(slope[0], expected, rtol=1e-6, atol=1e-6 / width)


def test_histogram_of_perfect_embeddings_is_zero_and_of_the_worst_one():
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    assert make("histogram")(torch.eye(3, dtype=torch.float64)[label], label).item() == 0
    assert make("histogram")(angles(0, 180, 0, 180), label[:4]).item() == pytest.approx(1)
    x = rows(40, dim=16)
    # chance
    assert make("histogram")(x, torch.arange(40) // 4).item() == pytest.approx(0.5, abs=0.05)


def test_only_ratios_of_weights_enter_a_histogram():
    x, label = rows(7), torch.tensor([0, 0, 0, 1, 1, 2, 2])
    weight = PairWeights(*torch.rand(2, 7, 7, dtype=torch.float64))
    scaled = PairWeights(3 * weight.positive, 0.2 * weight.negative)
    criterion = make("histogram")
    torch.testing.assert_close(criterion(x, label, None, weight), criterion(x, label, None, scaled))


def test_histogram_with_references_pairs_every_anchor_with_all_other_rows():
    x, label, size, anchors = rows(7), torch.tensor([0, 1, 0, 1, 1, 2, 0]), 7, 3
    weight = torch.rand(2, anchors, size, dtype=torch.float64)
    counted, h = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 65, dtype=torch.float64)
    for i in range(anchors):
        for j in range(size):
            if i != j:
                sign, s = int(label[i] != label[j]), (x[i] @ x[j]).item()
                counted[sign] += weight[sign, i, j]
                h[sign] += weight[sign, i, j] * torch.tensor(
                    [max(0, 1 - 32 * abs(s + 1 - r / 32)) for r in range(65)]
                )
    expected = ((h[1] / counted[1]) * (h[0] / counted[0]).cumsum(0)).sum()
    torch.testing.assert_close(
        make("histogram")(x, label, None, PairWeights(*weight), anchors), expected
    )


def test_histogram_refuses_a_single_node():
    with pytest.raises(UsageError, match="--loss_histogram_nbins 1.*at least 2"):
        make("histogram", nbins=1)


# ---- single precision


@pytest.mark.parametrize("name", ["lifted", "circle", "supcon", "histogram"])
def test_identical_and_opposite_rows_in_float32_are_as_in_float64(name):
    x = unit(torch.randn(6, 64, generator=torch.Generator().manual_seed(0)))
    x, label = torch.cat([x, x, -x]), torch.arange(6).repeat(3) // 2
    results = []
    for dtype in (torch.float32, torch.float64):
        rows_ = x.to(dtype).requires_grad_()
        loss = make(name).to(dtype)(rows_, label)
        results.append((loss.double(), torch.autograd.grad(loss, rows_)[0].double()))
    assert torch.isfinite(results[0][1]).all()
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)


# ---- adversarial separation


def separation(dim=6, **arguments):
    torch.manual_seed(3)
    return make("adversarial_separation", dim=dim, **{"hidden": 8, "weight": 2.0} | arguments)


def test_separation_of_three_parts_equals_the_oracle():
    x, label = rows(6, dim=6).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2])
    criterion = separation(parts=3, reg_weight=0.3)
    learned = dict(criterion.named_parameters())
    assert [tuple(p.shape) for p in learned.values()] == [(3, 8, 2), (3, 8), (3, 2, 8), (3, 2)]
    one, params = np.ones((6, 6)), {key: p.detach().numpy() for key, p in learned.items()}
    expected = ORACLES["adversarial_separation"](
        x.detach().numpy(),
        label.tolist(),
        [],
        one,
        one,
        "term",
        params,
        parts=3,
        hidden=8,
        weight=2.0,
        reg_weight=0.3,
    )
    assert criterion(x, label).item() == pytest.approx(expected, rel=1e-12)


def test_regressors_learn_to_predict_and_rows_learn_not_to_be_predicted():
    x, label = rows(6, dim=6).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2])
    criterion, base = separation(), make("multisimilarity")
    learned = list(criterion.parameters())
    gradients = torch.autograd.grad(criterion(x, label) - base(x, label), [x, *learned])
    similarity = criterion.similarity(x).item()
    with torch.no_grad():
        moved = criterion.similarity(x - 1e-3 * gradients[0]).item()
        for parameter, gradient in zip(learned, gradients[1:]):
            parameter -= 1e-3 * gradient
        trained = criterion.similarity(x).item()
    assert moved < similarity < trained


def test_reversal_changes_the_sign_of_the_rows_gradient_alone():
    x, label = rows(6, dim=6).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2])
    criterion, base = separation(), make("multisimilarity")
    learned = dict(criterion.named_parameters())
    first, second = (unit(part) for part in x.chunk(2, 1))
    hidden = torch.relu(second @ learned["w1"][0].T + learned["b1"][0])
    predicted = unit(hidden @ learned["w2"][0].T + learned["b2"][0])
    straight = -2.0 * (first * predicted).square().mean()
    theirs = torch.autograd.grad(straight, [x, *learned.values()])
    ours = torch.autograd.grad(criterion(x, label) - base(x, label), [x, *learned.values()])
    torch.testing.assert_close(ours[0], -theirs[0])
    assert ours[0].abs().max() > 1e-3
    for one, other in zip(ours[1:], theirs[1:]):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("on", ["margin", "quadruplet", "proxyanchor", "smoothap"])
def test_separation_follows_the_loss_that_it_is_added_to(on):
    x, label = rows(6, dim=6), torch.tensor([0, 0, 1, 1, 2, 2])
    criterion, base = separation(on=on), make(on, dim=6)
    assert all(
        getattr(criterion, name) == getattr(base, name)
        for name in (
            "needs_triplets",
            "needs_quadruplets",
            "takes_references",
            "accepts_weight",
            "placements",
        )
    )
    rows_of = torch.tensor([[0, 2], [1, 3], [2, 0], [4, 4]])
    tuples = Quadruplets(*rows_of) if on == "quadruplet" else Triplets(*rows_of[:3])
    criterion.base.load_state_dict(base.state_dict())
    expected = base(x, label, tuples) - 2 * criterion.similarity(x)
    torch.testing.assert_close(criterion(x, label, tuples), expected)
    weight = PairWeights(*torch.rand(2, 6, 1, dtype=torch.float64))
    torch.testing.assert_close(
        criterion(x, label, tuples, weight),
        base(x, label, tuples, weight) - 2 * criterion.similarity(x),
    )
    again = separation(on=on)
    again.load_state_dict(criterion.state_dict())
    torch.testing.assert_close(again(x, label, tuples), expected)


@pytest.mark.parametrize(
    "name,neutral", [("lifted", {"l2": 0.0}), ("adversarial_separation", {"weight": 0.0})]
)
def test_references_enter_no_term_of_single_rows(name, neutral):
    """Lengths and separation are those of the batch, whatever the references look like."""
    torch.manual_seed(0)
    x, label = (
        torch.cat([rows(4, dim=6), 7 * rows(3, dim=6, seed=1)]),
        torch.tensor([0, 0, 1, 1, 0, 1, 2]),
    )
    whole = make(name, dim=6)
    without = make(name, dim=6, **neutral)
    term = whole(x, label, anchors=4) - without(x, label, anchors=4)
    torch.testing.assert_close(term, whole(x[:4], label[:4]) - without(x[:4], label[:4]))
    assert term.abs() > 1e-3


def test_separation_takes_the_other_losss_arguments_placement_and_rates():
    criterion = separation(
        on="margin", on_arguments={"beta_lr": 0.7, "nu": 0.5}, lr=0.2, weight_on="distance"
    )
    assert (
        criterion.base.nu == 0.5 and criterion.base.weight_on == criterion.weight_on == "distance"
    )
    assert [
        (len(g["params"]), g["lr"], g["weight_decay"]) for g in criterion.param_groups(9.0)
    ] == [(1, 0.7, 0.0), (4, 0.2, 0.0)]
    assert [g["lr"] for g in separation(on="gpw").param_groups(9.0)] == [9.0]
    with pytest.raises(UsageError, match="--pair_weight_on distance: --loss gpw"):
        separation(on="gpw", weight_on="distance")


@pytest.mark.parametrize(
    "arguments,words",
    [
        ({"parts": 4}, "--loss_adversarial_separation_parts 4.*divide --embed_dim 6"),
        ({"parts": 1}, "at least 2"),
        (
            {"on": "adversarial_separation"},
            "--loss_adversarial_separation_on adversarial_separation",
        ),
        ({"on": "liftd"}, "--loss_adversarial_separation_on liftd.*lifted"),
    ],
)
def test_separation_refuses_what_cannot_work(arguments, words):
    with pytest.raises(UsageError, match=words):
        separation(**arguments)


def test_main_builds_the_separation_with_its_loss_and_miner():
    opt = get_options(
        [
            "--loss",
            "adversarial_separation",
            "--loss_adversarial_separation_on",
            "quadruplet",
            "--loss_quadruplet_margin_alpha_2",
            "0.4",
            "--loss_adversarial_separation_parts",
            "4",
            "--embed_dim",
            "8",
        ]
    )
    method, miner = build_method(opt, build_network(opt), 3), build_miner(opt)
    assert (
        method.base.base.margin_alpha_2 == 0.4 and method.base.parts == 4 and miner.second_negative
    )
    x, label = rows(9, dim=8).float(), torch.arange(9) // 3
    assert torch.isfinite(method.base(x, label, miner(x, label)))
