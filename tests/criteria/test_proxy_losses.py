"""Losses over proxies: values worked by hand, equality with pytorch-metric-learning, corners,
passes over memory."""
import math

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from criteria import CRITERIA, PairWeights, select
from criteria.proxies import cosine

LOSSES = ["arcface", "cosface", "proxyanchor", "proxynca", "softmax", "softtriplet"]
over_losses = pytest.mark.parametrize("name", LOSSES)


def build(name, n_classes, embed_dim, **arguments):
    torch.manual_seed(3)
    return select(name, n_classes=n_classes, embed_dim=embed_dim, **arguments).double()


def placed(name, proxies, **arguments):
    """A criterion with these proxies, (C, D), or centroids, (C, K, D)."""
    criterion = build(name, len(proxies), proxies.shape[-1], **arguments)
    for parameter in criterion.parameters():
        parameter.data = proxies.double()
    return criterion


def unit_batch(rows=12, dim=6, n_classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)
    return x.requires_grad_(), torch.randint(n_classes, (rows,), generator=generator)


# ---- worked by hand


# a proxy's length does not matter
AXES, LABEL = 7 * torch.eye(3), torch.tensor([0, 2, 2, 1])
# cosine 1 to the own proxy, else 0
ROWS = torch.eye(3, dtype=torch.float64)[LABEL]


@pytest.mark.parametrize(
    "name,expected",
    [
        ("softmax", math.log1p(2 * math.exp(-20))),
        ("arcface", math.log1p(2 * math.exp(-16 * math.cos(0.5)))),
        ("cosface", math.log1p(2 * math.exp(-64 * 0.65))),
        ("proxynca", 0 + math.log(2 * math.exp(-18))),
        (
            "proxyanchor",
            (2 * math.log1p(math.exp(-28.8)) + math.log1p(2 * math.exp(-28.8))) / 3
            + (2 * math.log1p(3 * math.exp(3.2)) + math.log1p(2 * math.exp(3.2))) / 3,
        ),
    ],
)
def test_images_that_are_their_proxies(name, expected):
    assert placed(name, AXES)(ROWS, LABEL).item() == pytest.approx(expected, rel=1e-9, abs=0)


def test_proxynca_with_its_own_proxy_among_the_rivals_is_a_cross_entropy():
    loss = placed("proxynca", AXES, include_positive=True)(ROWS, LABEL)
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-18)), rel=1e-9)


def test_softtriplet_with_perfect_centroids():
    """S is one for the own class and zero for the others; coinciding centroids are at no
    distance."""
    criterion = placed("softtriplet", AXES[:, None].repeat(1, 2, 1))
    loss = criterion(ROWS, LABEL)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-8 * 0.99)), rel=1e-9)
    assert torch.isfinite(criterion.centroids.grad).all()


@pytest.mark.parametrize("number,distances", [(2, 2), (3, 2 + 2 * math.sqrt(2))])
def test_softtriplet_with_centroids_on_both_sides(number, distances):
    """w_c1 = e_c, w_c2 = -e_c: S of the own class is the mean of 1 and -1 in shares of exp(10) and
    exp(-10). A third centroid is orthogonal to all, with S of share 1 times 0."""
    axes = torch.eye(4)[:3]
    centroids = torch.stack([axes, -axes, torch.eye(4)[3].expand(3, 4)][:number], 1)
    share = [math.exp(10), math.exp(-10), 1.0][:number]
    own = (share[0] - share[1]) / sum(share)
    expected = math.log(1 + 2 * math.exp(-8 * (own - 0.01))) + 0.2 * distances / (
        number * (number - 1)
    )
    loss = placed("softtriplet", centroids, n_centroids=number)(
        torch.eye(4, dtype=torch.float64)[LABEL], LABEL
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_an_image_of_weight_zero_does_not_outshine_the_others_of_its_class():
    """Its exponential is e^108 times theirs: more than float32 holds."""
    criterion = placed("proxyanchor", torch.tensor([[1.0, 0]]), alpha=120.0).float()
    x = torch.tensor([[-1.0, 0], [0, 1]], requires_grad=True)
    weight = torch.tensor([[0.0], [1]])
    loss = criterion(x, torch.tensor([0, 0]), None, PairWeights(weight, weight))
    assert loss.item() == pytest.approx(12, abs=1e-4)
    gradient, = torch.autograd.grad(loss, x)
    assert gradient.isfinite().all() and (gradient[0] == 0).all()


def test_weights_of_a_cross_entropy():
    """w+ scales the term, w- the others' exponentials; nothing pushes where w- is zero."""
    criterion, (x, label) = build("cosface", 3, 6), unit_batch(n_classes=3)
    one = torch.ones(len(x), 1, dtype=torch.float64)
    plain = criterion(x, label)
    torch.testing.assert_close(criterion(x, label, None, PairWeights(2 * one, one)), 2 * plain)
    assert criterion(x, label, None, PairWeights(one, 0 * one)).item() == 0
    # twice the exponentials of the others are the others twice
    doubled = select("cosface", n_classes=6, embed_dim=6).double()
    doubled.proxies.data = torch.cat([criterion.proxies.data] * 2)
    # its copy has no margin
    own_twice = cosine(x, criterion.proxies, 64).gather(1, label[:, None])
    z = cosine(x, doubled.proxies, 64).scatter_add(
        1, label[:, None], torch.full_like(own_twice, -64 * 0.35)
    )
    z = z.scatter(1, label[:, None] + 3, -torch.inf)
    expected = (z.logsumexp(1) - z.gather(1, label[:, None])[:, 0]).mean()
    torch.testing.assert_close(criterion(x, label, None, PairWeights(one, 2 * one)), expected)


# ---- as the library has it


def library(name, criterion, classes, dim):
    """The same loss of pytorch-metric-learning with the proxies of ours."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    regularizers = pytest.importorskip("pytorch_metric_learning.regularizers")
    table = {
        "softmax": lambda: losses.NormalizedSoftmaxLoss(classes, dim, temperature=0.05),
        "arcface": lambda: losses.ArcFaceLoss(classes, dim, margin=math.degrees(0.5), scale=16),
        "cosface": lambda: losses.CosFaceLoss(classes, dim, margin=0.35, scale=64),
        "proxynca": lambda: losses.ProxyNCALoss(classes, dim, softmax_scale=9),
        "proxyanchor": lambda: losses.ProxyAnchorLoss(classes, dim, margin=0.1, alpha=32),
        "softtriplet": lambda: losses.SoftTripleLoss(
            classes,
            dim,
            centers_per_class=2,
            la=8,
            gamma=0.1,
            margin=0.01,
            weight_regularizer=regularizers.SparseCentersRegularizer(classes, 2),
            weight_reg_weight=0.2,
        ),
    }
    theirs = table[name]()
    (ours,) = criterion.parameters()
    for attribute, value in (("W", ours.mT), ("fc", ours.flatten(0, -2).mT), ("proxies", ours)):
        if hasattr(theirs, attribute):
            getattr(theirs, attribute).data = value.detach().clone()
    return theirs


@over_losses
@pytest.mark.parametrize("seed", range(5))
def test_equals_pytorch_metric_learning(name, seed):
    classes, dim = 5, 6
    criterion = build(
        name, classes, dim, **({"include_positive": True} if name == "proxynca" else {})
    )
    x, label = unit_batch(seed=seed, dim=dim, n_classes=classes)
    theirs = library(name, criterion, classes, dim)
    (ours, by_x, by_proxy), (expected, its_by_x, its_by_proxy) = (
        (loss, *torch.autograd.grad(loss, [x, *module.parameters()]))
        for module in (criterion, theirs)
        for loss in [module(normalize(x, dim=1), label)]
    )
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(by_x, its_by_x, rtol=1e-7, atol=1e-9)
    its_by_proxy = (
        its_by_proxy if hasattr(theirs, "proxies") else its_by_proxy.T
    )  # (C, D) or (C K, D)
    torch.testing.assert_close(by_proxy.flatten(0, -2), its_by_proxy, rtol=1e-7, atol=1e-9)


# ---- corners


@over_losses
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "turn", [torch.eye(4), torch.linalg.qr(torch.arange(16.0).view(4, 4).cos()).Q]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosines_of_one_keep_finite_gradients(name, sign, turn, dtype):
    """Cosines of exactly one, or of one up to rounding, and a row of zeros."""
    label, axes = torch.tensor([0, 1, 2, 3, 0]), turn.to(dtype)
    criterion = placed(name, axes[:, None].repeat(1, 2, 1) if name == "softtriplet" else axes).to(
        dtype
    )
    x = (sign * axes[label]).index_fill(0, torch.tensor([4]), 0).requires_grad_()
    loss = criterion(x, label)
    assert torch.isfinite(loss)
    assert all(
        torch.isfinite(g).all() for g in torch.autograd.grad(loss, [x, *criterion.parameters()])
    )


@pytest.mark.parametrize("theta", [1e-3, 1.0, math.pi - 0.6, math.pi - 0.4, math.pi - 0.1])
def test_arcface_at_every_angle(theta):
    """Proxies at the angles 0 (own) and pi / 2; beyond pi - 0.5 the margin is one on the cosine."""
    criterion = placed("arcface", torch.eye(2), angular_margin=0.5, feature_scale=4.0)
    angle = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    loss = criterion(torch.stack([angle.cos(), angle.sin()])[None], torch.tensor([0]))
    within = theta < math.pi - 0.5
    own = math.cos(theta + 0.5) if within else math.cos(theta) - 0.5 * math.sin(0.5)
    lead = 4 * (math.sin(theta) - own)
    assert loss.item() == pytest.approx(math.log1p(math.exp(lead)), rel=1e-9)
    slope = 4 * (math.cos(theta) + math.sin(theta + 0.5 * within)) / (1 + math.exp(-lead))
    assert torch.autograd.grad(loss, angle)[0].item() == pytest.approx(slope, rel=1e-6)


def test_arcface_pulls_an_image_back_from_every_angle():
    """The own logit falls from angle 0 to pi, so that no image is held opposite to its proxy."""
    criterion = placed("arcface", torch.eye(3)[:2])
    angle = torch.linspace(0.01, math.pi - 0.01, 300, dtype=torch.float64)
    # the other proxy at a right angle
    rows = torch.stack([angle.cos(), torch.zeros_like(angle), angle.sin()], 1)
    loss = torch.stack([criterion(row[None], torch.tensor([0])) for row in rows])
    assert (loss.diff() > 0).all()


@over_losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_class_has_nothing_to_push_from(name, dtype):
    criterion, (x, label) = (
        build(name, 1, 6, **({"reg_weight": 0.0} if name == "softtriplet" else {})),
        unit_batch(),
    )
    criterion, x, label = criterion.to(dtype), x.detach().to(dtype).requires_grad_(), 0 * label
    zero = torch.zeros(len(x), 1, dtype=dtype)
    for weight in (None, PairWeights(zero + 1, zero), PairWeights(zero, zero)):
        loss = criterion(x, label, None, weight)
        gradients = torch.autograd.grad(loss, [x, *criterion.parameters()])
        assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients)
        if name not in ("proxynca", "proxyanchor"):
            assert loss == 0 and not any(g.any() for g in gradients)
    if name == "proxynca":
        proxy = criterion.proxies / criterion.proxies.norm()
        torch.testing.assert_close(criterion(x, label), 9 * (x - proxy).square().sum(1).mean())


def test_include_positive_of_one_class_is_zero():
    criterion, (x, label) = build("proxynca", 1, 6, include_positive=True), unit_batch()
    assert criterion(x, 0 * label).item() == pytest.approx(0, abs=1e-12)


# ---- cosines to the proxies


def test_cosine_and_its_gradients():
    generator = torch.Generator().manual_seed(0)
    x, proxies = (
        torch.randn(rows, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for rows in (4, 5)
    )
    torch.testing.assert_close(cosine(x, proxies, 2.5), 2.5 * x @ normalize(proxies, dim=1).T)
    torch.autograd.gradcheck(lambda a, b: cosine(a, b, 2.5), (x, proxies))
    assert cosine(x.float(), proxies).dtype == torch.float32


def test_a_second_derivative_is_refused_rather_than_wrong():
    x, proxies = torch.randn(2, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(cosine(x, proxies).exp().sum(), proxies, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class LargeResults(TorchDispatchMode):
    """Counts the operations whose result is as large as the proxies, views aside."""

    def __init__(self, size):
        super().__init__()
        self.size, self.number = size, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if (
            isinstance(result, torch.Tensor)
            and result.numel() == self.size
            and not function.is_view
        ):
            self.number += 1
        return result


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "softtriplet"])
def test_only_two_operations_write_something_as_large_as_the_proxies(name):
    """The product that is their gradient, and what the normalisation adds to it: more would cost
    more than products."""
    criterion, (x, label) = build(name, 301, 6), unit_batch(n_classes=301)
    with LargeResults(301 * 6) as counter:
        torch.autograd.grad(criterion(x, label), [x, criterion.proxies])
    assert counter.number == 2
    with LargeResults(301 * 6) as counter:
        # as the look-ahead reward asks
        torch.func.grad(lambda rows: criterion(rows, label))(x.detach())
    assert counter.number == 0


def test_every_loss_over_proxies_is_tested_here():
    assert {name for name, cls in CRITERIA.items() if cls.accepts_weight == "anchor"} == set(LOSSES)
