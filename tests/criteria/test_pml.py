"""Losses of pytorch-metric-learning by name: the library's own values, training, and refusals in
one sentence."""
import sys

import pytest
import torch

from criteria import PairWeights, select
from parameters import get_options
from training.building import build_method, build_network
from utilities.errors import UsageError
from utilities.pairwise import unit

losses = pytest.importorskip("pytorch_metric_learning.losses")
LABEL = torch.tensor([0, 0, 1, 1, 2, 2, 4, 4])
PARAMETERS = {
    "ProxyAnchorLoss": "proxies",
    "ArcFaceLoss": "W",
    "SoftTripleLoss": "fc",
    "P2SGradLoss": "weight",
}


def rows(seed=0, dim=8):
    return unit(torch.randn(len(LABEL), dim, generator=torch.Generator().manual_seed(seed)))


def make(name, *args, **arguments):
    torch.manual_seed(0)
    return select(f"pml.{name}", n_classes=5, embed_dim=8, args=args, **arguments)


@pytest.mark.parametrize(
    "name,args,direct",
    [
        ("ContrastiveLoss", [], losses.ContrastiveLoss()),
        ("ContrastiveLoss", ["pos_margin=0.1", "neg_margin=1.5"], losses.ContrastiveLoss(0.1, 1.5)),
        (
            "TripletMarginLoss",
            ["margin=0.3", "smooth_loss=True"],
            losses.TripletMarginLoss(0.3, smooth_loss=True),
        ),
        ("MarginLoss", ["triplets_per_anchor=all", "beta=1.1"], losses.MarginLoss(beta=1.1)),
        ("NTXentLoss", ["temperature=0.2"], losses.NTXentLoss(0.2)),
        ("SupConLoss", [], losses.SupConLoss()),
        ("ProxyAnchorLoss", ["alpha=16"], losses.ProxyAnchorLoss(5, 8, alpha=16)),
        ("ArcFaceLoss", ["margin=20"], losses.ArcFaceLoss(5, 8, margin=20)),
        ("CosFaceLoss", [], losses.CosFaceLoss(5, 8)),
        (
            "SoftTripleLoss",
            ["centers_per_class=3"],
            losses.SoftTripleLoss(5, 8, centers_per_class=3),
        ),
        ("P2SGradLoss", [], losses.P2SGradLoss(8, 5)),
    ],
)
def test_value_and_gradients_are_the_librarys(name, args, direct):
    criterion = make(name, *args)
    assert [p.shape for p in criterion.parameters()] == [p.shape for p in direct.parameters()]
    for own, theirs in zip(criterion.parameters(), direct.parameters()):
        theirs.data = own.data.clone()
    x, y = rows().requires_grad_(), rows().requires_grad_()
    one, other = criterion(x, LABEL), direct(y, LABEL)
    one.backward()
    other.backward()
    assert torch.equal(one, other) and torch.equal(x.grad, y.grad) and x.grad.any()
    for own, theirs in zip(criterion.parameters(), direct.parameters()):
        assert torch.equal(own.grad, theirs.grad)


@pytest.mark.parametrize(
    "name",
    [
        "ContrastiveLoss",
        "TripletMarginLoss",
        "ProxyAnchorLoss",
        "ArcFaceLoss",
        "SoftTripleLoss",
        "MultiSimilarityLoss",
        "FastAPLoss",
    ],
)
def test_steps_lower_the_loss_and_train_what_it_learns(name):
    criterion, x = make(name, lr=0.05), rows().requires_grad_()
    start = [p.detach().clone() for p in criterion.parameters()]
    assert all(p.grad is None for p in criterion.parameters())
    optimizer = torch.optim.Adam([{"params": [x], "lr": 0.05}, *criterion.param_groups(9.0)])
    values = []
    for _ in range(15):
        loss = criterion(unit(x), LABEL)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    assert all((p != before).any() for p, before in zip(criterion.parameters(), start))


@pytest.mark.parametrize("name", PARAMETERS)
def test_learned_parameters_are_the_criterions(name):
    criterion, other = make(name, lr=0.3), make(name)
    (group,) = criterion.param_groups(9.0)
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.3, 0.0, 1)
    assert list(criterion.state_dict()) == [f"wrapped.{PARAMETERS[name]}"]
    with torch.no_grad():
        group["params"][0].add_(1)
    other.load_state_dict(criterion.state_dict())
    assert torch.equal(other(rows(), LABEL), criterion(rows(), LABEL))
    assert all(p.device.type == "meta" for p in criterion.to("meta").parameters())
    assert make("ContrastiveLoss").param_groups(9.0) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["ContrastiveLoss", "ProxyAnchorLoss"])
def test_on_the_gpu_the_values_are_those_of_the_cpu(name):
    criterion = make(name)
    expected = criterion(rows(), LABEL).item()
    loss = criterion.cuda()(rows().cuda(), LABEL.cuda())
    assert loss.is_cuda and loss.item() == pytest.approx(expected, rel=1e-5)


def test_making_a_loss_leaves_no_trace():
    torch.manual_seed(5)
    direct, after = losses.ProxyAnchorLoss(5, 8).proxies, torch.rand(3)
    torch.manual_seed(5)
    criterion = select("pml.ProxyAnchorLoss", n_classes=5, embed_dim=8)
    assert torch.equal(criterion.wrapped.proxies, direct) and torch.equal(torch.rand(3), after)
    torch.manual_seed(5)
    following = torch.rand(3)
    torch.manual_seed(5)
    # draws in its forward
    select("pml.TripletMarginLoss", n_classes=5, embed_dim=8, args=["triplets_per_anchor=1"])
    assert torch.equal(torch.rand(3), following)


def test_half_precision_is_computed_in_float32():
    x = rows().half().requires_grad_()
    loss = make("ContrastiveLoss")(x, LABEL)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.equal(
        loss, make("ContrastiveLoss")(x.float(), LABEL)
    )


@pytest.mark.parametrize(
    "name", ["ContrastiveLoss", "TripletMarginLoss", "SupConLoss", "NTXentLoss"]
)
def test_nothing_to_compare_is_zero(name):
    x = rows().requires_grad_()
    loss = make(name)(x, torch.arange(8))
    loss.backward()
    # which has negatives there
    assert loss.item() == 0 or name == "ContrastiveLoss"
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    "name,args,words",
    [
        ("TripletMarginLos", [], "no loss of this name.*Did you mean TripletMarginLoss"),
        ("CrossBatchMemory", [], "no loss of this name"),
        ("SelfSupervisedLoss", [], "no loss of this name"),
        ("MultipleLosses", [], "no loss of this name"),
        ("BaseMetricLossFunction", [], "no loss of this name"),
        ("GenericPairLoss", [], "no loss of this name"),
        ("VICRegLoss", [], "does not work here"),
        ("ManifoldLoss", ["l=8"], "does not work here"),
        # keeps the graph of the step before
        ("DynamicSoftMarginLoss", [], "does not work here"),
        ("RankedListLoss", [], "missing 2 required.*Tn"),
        (
            "TripletMarginLoss",
            ["margni=1"],
            "--loss_pml_args margni.*no such argument.*Did you mean margin.*swap",
        ),
        ("CosFaceLoss", ["gin=1"], "It takes: .*margin.*num_classes"),
        ("TripletMarginLoss", ["margin"], "--loss_pml_args margin: .*NAME=VALUE"),
        ("TripletMarginLoss", ["margin=wide"], "--loss_pml_args margin=wide does not work"),
        ("TripletMarginLoss", ["margin=[1"], "does not work"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(name, args, words):
    with pytest.raises(UsageError, match=words) as refusal:
        make(name, *args)
    assert "\n" not in str(refusal.value)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(UsageError, match="pip install pytorch-metric-learning"):
        make("ContrastiveLoss")


def test_it_takes_no_weights_and_no_references():
    criterion = make("ContrastiveLoss")
    with pytest.raises(UsageError, match="--pair_weighting uniform"):
        criterion(rows(), LABEL, None, PairWeights(*torch.ones(2, 8, 1)))
    with pytest.raises(UsageError, match="--xbm_size 0"):
        criterion(rows(), LABEL, anchors=4)
    with pytest.raises(UsageError, match="--pair_weight_on distance: --loss pml.ContrastiveLoss"):
        make("ContrastiveLoss", weight_on="distance")


def test_main_builds_it_without_weights_and_with_relation_and_memory():
    opt = get_options(
        ["--loss", "pml.ProxyAnchorLoss", "--loss_pml_args", "alpha=16", "--loss_pml_lr", "0.5"]
    )
    method = build_method(opt, build_network(opt), 6)
    assert method.base.wrapped.alpha == 16 and method.base.wrapped.proxies.shape == (
        6,
        opt.embed_dim,
    )
    assert method.base.own_lr == 0.5 and method.policy is None and method.relation is not None
    weighted = get_options(["--loss", "pml.CircleLoss", "--pair_weighting", "learned"])
    with pytest.raises(UsageError, match="--pair_weighting uniform"):
        build_method(weighted, build_network(weighted), 6)
