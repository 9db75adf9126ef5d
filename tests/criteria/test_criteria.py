"""Every registered criterion against its naive oracle, and what all of them promise."""
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

from batchminer.base import Quadruplets, Triplets
from criteria import CRITERIA, PairWeights, select
from tests.oracles import ORACLES
from utilities.errors import UsageError
from utilities.pairwise import unit

CLASSES, DIM = 12, 4
LABELS = {
    "mixed sizes": [0, 0, 0, 1, 1, 2, 2, 2, 2],
    "singleton class": [0, 0, 1, 2, 2, 2],
    "one class": [1, 1, 1, 1],
    "all singletons": [3, 1, 0, 2],
    "labels with gaps": [7, 7, 3, 11, 3, 11, 7],
    "duplicates": [0, 0, 1, 1, 0, 1],
    "nothing active": [0, 0, 1, 1, 2, 2],
    "empty triplets": [0, 0, 1, 1, 1],
}
# constructor arguments to test; the defaults are always among them
VARIANTS = {
    "lifted": [{}, {"neg_margin": 0.3, "l2": 0.2}],
    "histogram": [{}, {"nbins": 6}],
    "circle": [{}, {"margin": 0.2, "gamma": 5.0}],
    "supcon": [{}, {"temperature": 0.5}],
    "adversarial_separation": [
        {},
        {"on": "gpw", "hidden": 7, "weight": 3.0, "reg_weight": 0.5},
        {"on": "lifted", "on_arguments": {"l2": 0.2}, "hidden": 7},
    ],
    "contrastive": [{}, {"pos_margin": 0.5, "neg_margin": 1.3, "avg_nonzero": True}],
    "triplet": [
        {},
        {"euclidean": True, "margin": 0.3},
        {"avg_nonzero": True},
        {"euclidean": True, "avg_nonzero": True},
        {"soft_margin": True},
        {"soft_margin": True, "euclidean": True},
    ],
    "npair": [{}, {"l2": 0.0}, {"l2": 0.3, "multiclass": True}],
    "angular": [
        {},
        {"alpha": 30.0, "npair_ang_weight": 0.5, "npair_l2": 0.2},
        {"angular_only": True},
    ],
    "snr": [{}, {"margin": 0.6, "reg_lambda": 0.0}],
    "quadruplet": [{}, {"margin_alpha_1": 0.5, "margin_alpha_2": 0.1, "squared": True}],
    "margin": [{}, {"nu": 0.05, "beta": 1.1}, {"beta_constant": True, "margin": 0.3}],
    "multisimilarity": [{}, {"pos_weight": 3.0, "neg_weight": 20.0, "margin": 0.5, "thresh": 0.2}],
    "recallatk": [{}, {"ks": (1, 3), "tau1": 0.5, "tau2": 0.1}],
    "smoothap": [{}, {"exclude_self": True, "tau": 0.1}],
    "supap": [
        {},
        {"tau": 0.1, "rho": 3.0, "delta": 0.2, "alpha": 0.7, "beta": -0.2, "calibration": 0.3},
        {"calibration": 0.0},
        {"exclude_self": False, "rho": 2.0},
    ],
    "proxyanchor": [{}, {"alpha": 8.0, "delta": 0.3}],
    "softmax": [{}, {"temperature": 0.5}],
    "arcface": [{}, {"angular_margin": 1.2, "feature_scale": 3.0}],
    "cosface": [{}, {"margin": 0.6, "scale": 5.0}],
    "proxynca": [{}, {"scale": 1.5}, {"include_positive": True}],
    "softtriplet": [
        {},
        {"n_centroids": 3, "margin_delta": 0.2, "gamma": 0.5, "scale": 3.0, "reg_weight": 2.0},
        {"n_centroids": 1, "scale": 20.0},
    ],
}
NOT_A_MEAN_OVER_ANCHORS = {"histogram"}
# part of the gradient is held or turned: their oracles take `at`
NOT_THE_SLOPE = {"circle", "adversarial_separation"}
CASES = [
    pytest.param(name, placement, arguments, id=f"{name}-{placement}-{number}")
    for name, cls in CRITERIA.items()
    for placement in cls.placements
    for number, arguments in enumerate(VARIANTS.get(name, [{}]))
]
over_cases = pytest.mark.parametrize("name,placement,arguments", CASES)
over_names = pytest.mark.parametrize("name", CRITERIA)


def batch(kind, name="margin", seed=0):
    """Unit rows x (B, D), labels, and of all triplets (quadruplets where the criterion needs them)
    about 0.4."""
    rng, label = np.random.default_rng(seed), LABELS[kind]
    x = rng.normal(size=(len(label), DIM))
    if kind == "duplicates":
        # across and within a class
        x[2], x[4] = x[0], x[0]
    if kind == "nothing active":
        x = np.eye(DIM)[label]
    x = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))
    form = Quadruplets if CRITERIA[name].needs_quadruplets else Triplets
    length = len(form._fields)
    every = [
        (a, p, *ns)
        for a, p, *ns in product(range(len(label)), repeat=length)
        if a != p and label[a] == label[p] and len({label[i] for i in (a, *ns)}) == length - 1
    ]
    chosen = [t for t in every if rng.random() < 0.4] if kind != "empty triplets" else []
    return (
        x,
        torch.tensor(label),
        form(*torch.tensor(chosen, dtype=torch.long).reshape(-1, length).T),
    )


def build(name, placement="term", arguments=None):
    torch.manual_seed(1)
    criterion = select(
        name, n_classes=CLASSES, embed_dim=DIM, weight_on=placement, **(arguments or {})
    ).double()
    with torch.no_grad():
        for parameter in criterion.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return criterion


def columns_of(criterion, rows):
    """The weight shapes that a criterion takes: (B, 1), and (B, B) where it weights pairs."""
    return [1, rows] if criterion.accepts_weight == "pair" else [1]


def random_weights(rows, columns, seed=0, leading=()):
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        2 * torch.rand(*leading, rows, columns, generator=generator, dtype=torch.float64)
        for _ in range(2)
    ]
    # a tenth of them exactly zero
    return PairWeights(*(w * (w > 0.2) for w in drawn))


def oracle_of(name, placement, arguments, label, triplets, weight, at):
    """The oracle as a function of the rows and the parameters; its slope at the rows `at` is the
    gradient."""
    size = len(label)
    w_pos, w_neg = (
        [np.ones((size, size))] * 2
        if weight is None
        else [w.expand(size, size).numpy() for w in weight]
    )
    listed = [tuple(t.tolist()) for t in torch.stack(triplets, 1)]
    held = {"at": at} if name in NOT_THE_SLOPE else {}

    def value(x, params):
        return ORACLES[name](
            x, label.tolist(), listed, w_pos, w_neg, placement, params, **arguments, **held
        )

    return value


def slope(function, point, direction, step=3e-7):
    """Directional derivative by central differences of fourth order."""
    near, far = (
        function(point + k * step * direction) - function(point - k * step * direction)
        for k in (1, 2)
    )
    return (8 * near - far) / (12 * step)


def test_every_criterion_has_an_oracle():
    assert set(ORACLES) == set(CRITERIA)


@over_cases
@pytest.mark.parametrize("kind", LABELS)
def test_value_and_gradient_equal_the_oracle(name, placement, arguments, kind):
    if (name, kind) == ("adversarial_separation", "nothing active"):
        pytest.skip("its parts are of length zero there, and have no direction")
    if (name, kind) == ("supap", "duplicates"):
        pytest.skip(
            "jumps at ties, which rounding decides there; test_ranking_losses.py has exact ties"
        )
    criterion, (x, label, triplets) = build(name, placement, arguments), batch(kind, name)
    x.requires_grad_()
    point = x.detach().numpy()
    learned = dict(criterion.named_parameters())
    params = {key: p.detach().numpy() for key, p in learned.items()}
    weights = [None] + [
        random_weights(len(label), columns) for columns in columns_of(criterion, len(label))
    ]
    for weight in weights:
        loss = criterion(x, label, triplets, weight)
        oracle = oracle_of(name, placement, arguments, label, triplets, weight, point)
        assert loss.item() == pytest.approx(oracle(point, params), rel=1e-9, abs=1e-12)
        gradients = torch.autograd.grad(loss, [x, *learned.values()])
        rng = np.random.default_rng(0)
        # of the differences
        noise = 1e-7 * max(1, abs(loss.item()))
        for _ in range(2):
            direction = rng.normal(size=x.shape)
            expected = slope(partial(oracle, params=params), point, direction)
            assert (gradients[0].numpy() * direction).sum() == pytest.approx(
                expected, rel=1e-6, abs=noise
            )
            for key, gradient in zip(learned, gradients[1:]):
                direction = rng.normal(size=gradient.shape)

                def of_parameter(p, key=key, oracle=oracle):
                    return oracle(point, params | {key: p})

                expected = slope(of_parameter, params[key], direction)
                assert (gradient.numpy() * direction).sum() == pytest.approx(
                    expected, rel=1e-6, abs=noise
                )


@over_cases
def test_gradcheck(name, placement, arguments):
    if name in NOT_THE_SLOPE:
        pytest.skip("its gradient is not the derivative of its value")
    criterion, (x, label, triplets) = (
        build(name, placement, arguments),
        batch("singleton class", name),
    )
    weight = random_weights(len(label), columns_of(criterion, len(label))[-1])
    torch.autograd.gradcheck(lambda z: criterion(z, label, triplets, weight), x.requires_grad_())


@over_cases
@pytest.mark.parametrize("kind", ["mixed sizes", "singleton class"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_one_change_no_bit(name, placement, arguments, kind, dtype):
    criterion, (x, label, triplets) = build(name, placement, arguments).to(dtype), batch(kind, name)
    x = x.to(dtype).requires_grad_()
    plain = criterion(x, label, triplets)
    (plain_gradient,) = torch.autograd.grad(plain, x)
    for columns in columns_of(criterion, len(label)):
        loss = criterion(
            x, label, triplets, PairWeights(*torch.ones(2, len(label), columns, dtype=dtype))
        )
        (gradient,) = torch.autograd.grad(loss, x)
        assert torch.equal(loss, plain) and torch.equal(gradient, plain_gradient)


@over_cases
def test_one_column_is_that_weight_for_all_pairs_of_the_anchor(name, placement, arguments):
    criterion, (x, label, triplets) = build(name, placement, arguments), batch("mixed sizes", name)
    if criterion.accepts_weight != "pair":
        pytest.skip("takes one column only")
    column = random_weights(len(label), 1)
    whole = PairWeights(*(w.expand(-1, len(label)).clone() for w in column))
    assert torch.equal(criterion(x, label, triplets, column), criterion(x, label, triplets, whole))


@over_cases
def test_entries_that_are_no_pair_of_that_sign_are_not_read(name, placement, arguments):
    criterion, (x, label, triplets) = build(name, placement, arguments), batch("mixed sizes", name)
    if criterion.accepts_weight != "pair":
        pytest.skip("takes one column only")
    # also triplets whose negative is of the class and whose positive is not, as some miners choose
    anchor, positive, negative, *more = triplets
    crossed = zip(triplets, (anchor, negative, positive, *more))
    triplets = type(triplets)(*map(torch.cat, crossed))
    weight = random_weights(len(label), len(label))
    same = label[:, None] == label
    spoilt = PairWeights(
        weight.positive.masked_fill(~same | torch.eye(len(label), dtype=torch.bool), torch.nan),
        weight.negative.masked_fill(same, torch.nan),
    )
    x.requires_grad_()
    results = [
        torch.autograd.grad(criterion(x, label, triplets, w), x)[0] for w in (weight, spoilt)
    ]
    assert torch.equal(*results) and torch.isfinite(results[0]).all()


@over_names
def test_a_second_negative_is_left_unread_where_triplets_are_enough(name):
    criterion, (x, label, triplets) = build(name), batch("mixed sizes", name)
    if not criterion.needs_triplets or criterion.needs_quadruplets:
        pytest.skip("takes no triplets")
    four = Quadruplets(*triplets, triplets.negative)
    assert torch.equal(criterion(x, label, four), criterion(x, label, triplets))


@pytest.mark.parametrize("anchors", [-1, 0, 10])
def test_anchors_that_are_not_rows_are_refused(anchors):
    x, label, _ = batch("mixed sizes")
    with pytest.raises(UsageError, match=f"SmoothAP was given anchors {anchors} of 9 rows: pass 1 to 9"):
        build("smoothap")(x, label, anchors=anchors)


@pytest.mark.parametrize("name", ["softmax", "proxyanchor", "softtriplet"])
def test_rows_of_other_dimensions_than_the_proxies_are_refused(name):
    x, label, _ = batch("mixed sizes")
    with pytest.raises(UsageError, match=rf"parameters of {DIM} dimensions .*: pass --embed_dim {DIM + 1}"):
        build(name)(torch.nn.functional.pad(x, (0, 1)), label)


@over_cases
def test_order_of_the_batch_does_not_matter(name, placement, arguments):
    criterion, (x, label, triplets) = build(name, placement, arguments), batch("mixed sizes", name)
    order = torch.randperm(len(label))
    place = order.argsort()
    moved = type(triplets)(*(place[t] for t in triplets))
    for columns in columns_of(criterion, len(label)):
        weight = random_weights(len(label), columns)
        there = PairWeights(*(w[order] if columns == 1 else w[order][:, order] for w in weight))
        torch.testing.assert_close(
            criterion(x[order], label[order], moved, there),
            criterion(x, label, triplets, weight),
            rtol=1e-12,
            atol=1e-12,
        )


@pytest.mark.parametrize(
    "name",
    [
        "gpw",
        "margin",
        "multisimilarity",
        "smoothap",
        "lifted",
        "circle",
        "supcon",
        "contrastive",
        "triplet",
        "npair",
        "angular",
        "snr",
        "quadruplet",
        "recallatk",
        "supap",
    ],
)
def test_anchors_add_up_so_the_others_weights_do_not_touch_an_anchor(name):
    """L(w) = sum_i l_i(w_i): what row i adds is the same whatever the other rows are; with weight
    one it is plain."""
    criterion, (x, label, triplets) = build(name), batch("mixed sizes", name)
    size = len(label)
    weight, plain = (
        random_weights(size, size),
        PairWeights(*torch.ones(2, size, size, dtype=torch.float64)),
    )

    def loss(weighted_rows):
        rows = torch.zeros(size, 1, dtype=torch.bool)
        rows[weighted_rows] = True
        return criterion(
            x,
            label,
            triplets,
            PairWeights(*(torch.where(rows, w, o) for w, o in zip(weight, plain))),
        )

    base = loss([])
    alone = torch.stack([loss([i]) - base for i in range(size)])
    # weighting does something
    assert alone.abs().max() > 1e-3
    for i in range(size):
        others = [j for j in range(size) if j != i]
        torch.testing.assert_close(loss(others) - base, alone[others].sum(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            loss(list(range(size))) - loss(others), alone[i], rtol=1e-9, atol=1e-12
        )


@over_cases
def test_references_are_only_compared_with(name, placement, arguments):
    """Losses that average over anchors: the mean over the anchors, each alone among references, is
    the whole."""
    criterion, (x, label, _) = build(name, placement, arguments), batch("mixed sizes", name)
    references = criterion.takes_references and not criterion.needs_triplets
    if not references or name in NOT_A_MEAN_OVER_ANCHORS:
        pytest.skip("takes no references, or only through its triplets, or is no mean over anchors")
    size = len(label)
    orders = [torch.tensor([i, *(j for j in range(size) if j != i)]) for i in range(size)]
    alone = torch.stack([criterion(x[order], label[order], anchors=1) for order in orders])
    assert alone.std() > 1e-6
    torch.testing.assert_close(alone.mean(), criterion(x, label), rtol=1e-9, atol=1e-12)
    some = torch.stack([criterion(x[order], label[order], anchors=1) for order in orders[:4]])
    torch.testing.assert_close(some.mean(), criterion(x, label, anchors=4), rtol=1e-9, atol=1e-12)


@over_names
def test_what_takes_no_references_refuses_them(name):
    x, label, triplets = batch("mixed sizes", name)
    if not CRITERIA[name].takes_references:
        with pytest.raises(UsageError, match="--xbm_size 0"):
            build(name)(x, label, triplets, anchors=3)


@over_cases
@pytest.mark.parametrize(
    "kind", ["one class", "all singletons", "empty triplets", "duplicates", "nothing active"]
)
def test_degenerate_batches_are_finite_and_differentiable(name, placement, arguments, kind):
    criterion, (x, label, triplets) = build(name, placement, arguments), batch(kind, name)
    x.requires_grad_()
    zero = (
        random_weights(len(label), 1)
        if kind == "duplicates"
        else PairWeights(*torch.zeros(2, len(label), 1))
    )
    for weight in (None, zero):
        loss = criterion(x, label, triplets, weight)
        # still attached to the graph
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(x.grad).all()
        assert all(torch.isfinite(p.grad).all() for p in criterion.parameters())


@pytest.mark.parametrize(
    "name,kind",
    [
        *[
            (n, k)
            for n in ("gpw", "multisimilarity", "circle", "histogram")
            for k in ("one class", "all singletons")
        ],
        ("lifted", "one class"),
        ("lifted", "all singletons"),
        ("supcon", "all singletons"),
        ("multisimilarity", "nothing active"),
        ("margin", "nothing active"),
        ("margin", "empty triplets"),
        ("margin", "one class"),
        ("smoothap", "one class"),
        ("smoothap", "all singletons"),
        ("recallatk", "all singletons"),
        ("supap", "all singletons"),
        *[
            (n, k)
            for n in ("contrastive", "triplet", "npair", "angular", "snr", "quadruplet")
            for k in ("empty triplets", "one class", "all singletons")
        ],
        *[(n, "nothing active") for n in ("contrastive", "triplet", "quadruplet")],
    ],
)
def test_nothing_to_compare_is_zero_with_zero_gradient(name, kind):
    # a singleton query of smoothap that keeps itself is a positive of its own, with an AP near one
    arguments = {"exclude_self": True} if (name, kind) == ("smoothap", "all singletons") else {}
    arguments |= {"l2": 0.0} if name == "lifted" else {}
    criterion, (x, label, triplets) = build(name, "term", arguments), batch(kind, name)
    if name == "margin":
        torch.nn.init.constant_(criterion.beta, 1.2)
    loss = criterion(x.requires_grad_(), label, triplets)
    loss.backward()
    assert loss.item() == 0 and not x.grad.any()
    assert all(not p.grad.any() for p in criterion.parameters())


@over_cases
@pytest.mark.parametrize("learns", [True, False])
def test_vmap_over_candidate_weights_equals_a_loop(name, placement, arguments, learns):
    criterion, (x, label, triplets) = build(name, placement, arguments), batch("mixed sizes", name)
    criterion.requires_grad_(learns)
    for columns in columns_of(criterion, len(label)):
        weight = random_weights(len(label), columns, leading=(3,))
        mapped = vmap(
            grad(lambda z, p, n: criterion(z, label, triplets, PairWeights(p, n))),
            in_dims=(None, 0, 0),
        )
        with torch.no_grad():
            without = mapped(x, *weight)
        rows = x.clone().requires_grad_()
        for k in range(3):
            loss = criterion(rows, label, triplets, PairWeights(*(w[k] for w in weight)))
            (expected,) = torch.autograd.grad(loss, rows)
            torch.testing.assert_close(without[k], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(mapped(x, *weight), without, rtol=1e-9, atol=1e-12)


@over_names
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    criterion, (x, label, triplets) = build(name).float(), batch("mixed sizes", name)
    x = x.to(dtype).requires_grad_()
    weight = PairWeights(*(w.to(dtype) for w in random_weights(len(label), 1)))
    loss = criterion(x, label, triplets, weight)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(x.grad).all()
    exact = PairWeights(*(w.float() for w in weight))
    assert torch.equal(loss, criterion(x.float(), label, triplets, exact))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss, criterion(x.float(), label, triplets, exact))


@over_names
def test_double_precision_stays(name):
    # parameters in float32
    criterion = select(name, n_classes=CLASSES, embed_dim=DIM)
    x, label, triplets = batch("mixed sizes", name)
    assert criterion(x, label, triplets).dtype == torch.float64


@over_names
def test_param_groups_have_their_own_rate_and_no_decay(name):
    groups = build(name).param_groups(lr=7.0)
    own = {
        "margin": 5e-4,
        "proxyanchor": 1e-2,
        "adversarial_separation": 7.0,
        "softmax": 1e-5,
        "arcface": 5e-4,
        "cosface": 1e-2,
        "proxynca": 5e-4,
        "softtriplet": 1e-2,
    }
    assert [(g["lr"], g["weight_decay"]) for g in groups] == (
        [(own[name], 0.0)] if name in own else []
    )
    frozen = select("margin", n_classes=3, embed_dim=2, beta_constant=True)
    assert frozen.param_groups(lr=7.0) == []


def test_select_refuses_what_cannot_work():
    with pytest.raises(UsageError, match="--loss smothap.*smoothap"):
        select("smothap", n_classes=2, embed_dim=2)
    with pytest.raises(UsageError, match="--pair_weight_on distance.*--loss gpw.*term"):
        select("gpw", n_classes=2, embed_dim=2, weight_on="distance")
    with pytest.raises(UsageError, match="--loss_margin_nu"):
        select("margin", n_classes=2, embed_dim=2, beta_constant=True, nu=0.1)
    assert select("margin", n_classes=2, embed_dim=2, weight_on="distance").weight_on == "distance"


def test_forward_refuses_missing_triplets_and_pair_weights_on_proxies():
    x, label, _ = batch("mixed sizes")
    with pytest.raises(UsageError, match="--batch_mining"):
        build("margin")(x, label)
    with pytest.raises(UsageError, match="--policy_action weight"):
        build("proxyanchor")(x, label, None, random_weights(len(label), len(label)))


def test_uniform_gpw_is_the_form_with_rows_that_sum_to_one():
    """FORMULAS' form: sum over pairs of a softmax weight times the similarity; times |row| it is a
    multiplier."""
    x, label, _ = batch("mixed sizes")
    s, total = x @ x.T, 0
    multiplier = torch.zeros(2, len(label), len(label), dtype=torch.float64)
    for i in range(len(label)):
        for sign, same in ((0, True), (1, False)):
            pairs = [j for j in range(len(label)) if j != i and (label[j] == label[i]) == same]
            w = (s[i, pairs] * 7).softmax(-1)
            total = total + (-1 if same else 1) * (w * s[i, pairs]).sum() / len(label)
            multiplier[sign, i, pairs] = w * len(pairs)
    torch.testing.assert_close(build("gpw")(x, label, None, PairWeights(*multiplier)), total)


@pytest.mark.parametrize("exclude_self", [True, False])
def test_smoothap_of_perfect_embeddings_is_zero(exclude_self):
    label = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    criterion = select("smoothap", n_classes=3, embed_dim=3, exclude_self=exclude_self)
    perfect = criterion(torch.eye(3, dtype=torch.float64)[label], label)
    assert perfect.item() == pytest.approx(0, abs=1e-12)
    assert criterion(torch.eye(3, dtype=torch.float64)[torch.arange(8) % 3], label) > 0.1


def test_margin_weight_of_zero_lowers_the_loss_instead_of_renormalising():
    x, label, triplets = batch("mixed sizes")
    criterion = build("margin")
    nothing = PairWeights(*torch.zeros(2, len(label), 1, dtype=torch.float64))
    assert criterion(x, label, triplets, nothing).item() == 0 < criterion(x, label, triplets).item()


def test_multisimilarity_and_margin_and_proxyanchor_equal_pytorch_metric_learning():
    losses, miners = (
        pytest.importorskip("pytorch_metric_learning.losses"),
        pytest.importorskip("pytorch_metric_learning.miners"),
    )
    for seed in range(3):
        x, label, triplets = batch("labels with gaps", seed=seed)
        mined = miners.MultiSimilarityMiner(epsilon=0.1)(x, label)
        theirs = losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5)(x, label, mined)
        torch.testing.assert_close(
            build("multisimilarity")(x, label), theirs, rtol=1e-9, atol=1e-12
        )

        ours, theirs = (
            build("proxyanchor"),
            losses.ProxyAnchorLoss(CLASSES, DIM, margin=0.1, alpha=32),
        )
        theirs.proxies.data = ours.proxies.data.clone()
        torch.testing.assert_close(ours(x, label), theirs(x, label), rtol=1e-9, atol=1e-12)

        ours = build("margin", arguments={"nu": 0.05})
        theirs = losses.MarginLoss(
            margin=0.2, nu=0.05, beta=1.2, learn_beta=True, num_classes=CLASSES
        )
        # they have no 1e-8 in the root
        theirs.beta.data = ours.beta.data.clone()
        torch.testing.assert_close(
            ours(x, label, triplets), theirs(x, label, tuple(triplets)), rtol=1e-6, atol=1e-7
        )


def test_rows_are_taken_as_given():
    for name in CRITERIA:
        x, label, triplets = batch("mixed sizes", name)
        same = torch.allclose(
            build(name)(1.5 * x, label, triplets), build(name)(unit(x), label, triplets)
        )
        # the one that normalises inside
        assert same == (name == "proxynca")


@pytest.mark.parametrize("name", ["smoothap", "supcon", "multisimilarity", "lifted", "circle", "recallatk"])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (5, 1), (7, 1), (6, 5), ()])
def test_weights_that_would_broadcast_are_refused(name, shape):
    criterion = select(name, n_classes=3, embed_dim=DIM)
    x = unit(torch.randn(6, DIM))
    weight = torch.ones(shape)
    with pytest.raises(UsageError, match=r"takes weights of both signs, \(6, 1\) or \(6, 6\) each"):
        criterion(x, torch.tensor([0, 0, 1, 1, 2, 2]), weight=PairWeights(weight, weight))


@over_names
def test_no_image_at_all_is_refused(name):
    criterion = select(name, n_classes=3, embed_dim=DIM)
    with pytest.raises(UsageError, match=r"one image or more, not"):
        criterion(torch.zeros(0, DIM), torch.zeros(0, dtype=torch.long))


def test_weights_of_one_sign_are_refused_and_none_of_either_are_no_weights():
    criterion = select("smoothap", n_classes=3, embed_dim=DIM)
    x = unit(torch.randn(6, DIM))
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    assert criterion(x, label, weight=PairWeights()) == criterion(x, label)
    with pytest.raises(UsageError, match="weights of both signs"):
        criterion(x, label, weight=PairWeights(torch.ones(6, 1)))
