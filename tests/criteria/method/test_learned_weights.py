"""LearnedWeights against the method that main.py builds from flags, and its contract as a loss of any loop."""
import inspect
import io
import re

import pytest
import torch
from torch import nn

from architectures.backbones import Backbone
from architectures.network import Features, Network
from batchminer import DistanceWeighted
from criteria import CRITERIA, Margin, SmoothAP, select
from criteria.method import GRU, Factor, LearnedWeights, LMMetric, Lookahead, Policy, PolicyTraining, Sharpness
from criteria.method.memory_target import MemoryTarget
from parameters import get_options
from training.building import build_method, build_miner
from training.optimisation import parameter_groups
from utilities import errors
from utilities.errors import UsageError

CLASSES, DIM = 6, 8
LABEL = torch.arange(CLASSES).repeat(4)
PLAIN = ["--relation", "none", "--memory", "none", "--embed_dim", str(DIM)]


def rows(step=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(len(LABEL), DIM, generator=generator, dtype=dtype).requires_grad_()


def gradients(module):
    return {re.sub("^method.", "", name): p.grad for name, p in module.named_parameters()}


def optimizer_step(parameters):
    """A step of plain gradient descent, so that later losses depend on earlier gradients."""
    with torch.no_grad():
        for p in parameters:
            p -= p.grad
            p.grad = None


@pytest.mark.parametrize("flags", [
    ["--loss", "smoothap"],
    ["--loss", "smoothap", "--policy_granularity", "anchor"],
    ["--loss", "multisimilarity"],
    ["--loss", "margin"],
    ["--loss", "arcface"],
    ["--loss", "proxyanchor"],
], ids=lambda flags: " ".join(flags[1:]))
def test_it_is_the_method_of_main_without_relation_and_memory_bit_for_bit(flags):
    opt = get_options([*PLAIN, *flags])
    network = Network(Backbone(nn.Identity(), DIM, pooled=True), DIM)
    torch.manual_seed(3)
    method = build_method(opt, network, CLASSES)
    miner = build_miner(opt)
    torch.manual_seed(3)
    arguments = {"tau": 0.08} if opt.loss == "smoothap" else {}
    base = select(opt.loss, n_classes=CLASSES, embed_dim=DIM, **arguments)
    granularity = {"granularity": "anchor"} if "--policy_granularity" in flags else {}
    loss = LearnedWeights(base, seed=opt.seed, **granularity)
    for step in range(3):
        features = network(rows(step).detach())._replace(embedding=rows(step))
        related = method.relate(network, features)
        triplets = miner(related.z, LABEL) if miner else None
        terms = method(network, features, related, LABEL, torch.arange(len(LABEL)), triplets)
        terms["total"].backward()
        own = rows(step)
        total = loss(own, LABEL, triplets)
        total.backward()
        assert torch.equal(total, terms["total"])
        assert torch.equal(own.grad, features.embedding.grad)
        expected = gradients(method)
        found = gradients(loss)
        assert found.keys() == expected.keys() and found["policy.head_positive.weight"].any()
        assert all(torch.equal(found[name], expected[name]) for name in found)
        optimizer_step(method.parameters())
        optimizer_step(loss.parameters())
    rates = {"lr": 1.0, "policy_lr": opt.policy_lr}
    theirs = parameter_groups(network, method, **rates)[2:]
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in loss.param_groups(1.0)] == [
        (g["name"], g["lr"], g["weight_decay"]) for g in theirs]


@pytest.mark.parametrize("name", CRITERIA)
def test_every_loss_that_takes_weights_learns_them(name):
    base = select(name, n_classes=CLASSES, embed_dim=DIM)
    if base.accepts_weight == "none":
        with pytest.raises(UsageError, match="takes no pair weights"):
            LearnedWeights(base)
        return
    loss = LearnedWeights(base)
    triplets = None
    if base.needs_triplets:
        miner = DistanceWeighted()
        miner.second_negative = base.needs_quadruplets
        triplets = miner(rows(), LABEL)
    x = rows()
    loss(x, LABEL, triplets).backward()
    assert x.grad.isfinite().all() and x.grad.any()
    assert loss.policy.head_positive.weight.grad.any()
    assert loss.terms.keys() == {"metric", "policy", "entropy", "total"}
    assert not any(term.requires_grad for term in loss.terms.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_of_any_precision(dtype):
    x = rows().detach().to(dtype).requires_grad_()
    loss = LearnedWeights(SmoothAP(tau=0.08))
    total = loss(x, LABEL)
    total.backward()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert total.dtype == wide and x.grad.dtype == dtype
    again = LearnedWeights(SmoothAP(tau=0.08))(x.detach().to(wide), LABEL)
    assert torch.equal(total, again)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LearnedWeights(SmoothAP(tau=0.08))(x.detach(), LABEL), again)


def test_the_optimizers_rate_is_that_of_parameters_without_one():
    policy, = LearnedWeights(SmoothAP()).param_groups()
    assert policy["lr"] == 1e-2 and policy["weight_decay"] == 0
    assert LearnedWeights(SmoothAP(), granularity="anchor").param_groups()[0]["lr"] == 1e-3
    assert LearnedWeights(SmoothAP(), lr=0.5).param_groups()[0]["lr"] == 0.5
    base = Margin(CLASSES)
    base.own_lr = None
    loss = LearnedWeights(base)
    net = nn.Linear(DIM, DIM)
    optimizer = torch.optim.AdamW([{"params": net.parameters()}, *loss.param_groups()], lr=0.7, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.7, 0.1), (0.7, 0.0), (1e-2, 0.0)]
    held = [p for g in optimizer.param_groups for p in g["params"]]
    assert len(held) == 7 and set(held) == {*net.parameters(), *loss.parameters()}


def test_the_policy_learns_in_a_plain_loop():
    """On this data a step under sharp weights improves the AP most; the policy leaves its uniform start."""
    loss = LearnedWeights(SmoothAP(tau=0.3), lr=0.05)
    optimizer = torch.optim.Adam(loss.param_groups())
    before = loss.record(rows(1), LABEL)
    for step in range(40):
        optimizer.zero_grad()
        loss(rows(step).detach(), LABEL).backward()
        optimizer.step()
    after = loss.record(rows(1), LABEL)
    assert before["advantage_over_uniform"] < after["advantage_over_uniform"]
    assert after["entropy_negative"] < before["entropy_negative"] - 0.1


def test_a_record_leaves_training_as_it_is():
    one = LearnedWeights(SmoothAP())
    other = LearnedWeights(SmoothAP())
    one(rows(), LABEL)
    other(rows(), LABEL)
    record = one.record(rows(), LABEL)
    assert len(record["probability_positive"]) == len(Sharpness.grids[0])
    assert torch.equal(one(rows(1), LABEL), other(rows(1), LABEL))


def test_a_saved_state_continues_its_draws():
    one = LearnedWeights(SmoothAP())
    one(rows(), LABEL)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other = LearnedWeights(SmoothAP(), seed=5)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(one(rows(1), LABEL), other(rows(1), LABEL))


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: LearnedWeights(nn.CrossEntropyLoss()), "loss is a CrossEntropyLoss: pass a criterion"),
    (lambda: LearnedWeights(select("pml.ContrastiveLoss", n_classes=4, embed_dim=4)),
     "takes no pair weights: use it without them."),
    (lambda: LearnedWeights(CRITERIA["arcface"](4, 4), Sharpness()),
     r'pass weighting=Factor\(\), granularity="anchor"\.'),
    (lambda: LearnedWeights(SmoothAP(), Factor(), granularity="batch"),
     r'granularity="batch" has no effect.*pass granularity="anchor"'),
    (lambda: LearnedWeights(SmoothAP(), granularity="anchors"), "^granularity anchors: .*mean anchor.*batch, anchor"),
    (lambda: LearnedWeights(SmoothAP(), training=PolicyTraining(samples=1)), "needs at least samples=2"),
    (lambda: PolicyTraining(act="expcted"), "^act expcted: .*mean expected.*sample, expected, greedy"),
    (lambda: PolicyTraining(baseline="leaveoneout"), "^baseline leaveoneout: .*mean leave_one_out"),
    (lambda: Policy(4, Sharpness(), granularity="anchors"), "^granularity anchors: .*mean anchor"),
    (lambda: Policy(4, Sharpness(), input="statistic"), "^input statistic: .*mean statistics"),
    (lambda: Policy(4, Sharpness(), state="row"), "^state row: .*mean raw"),
    (lambda: GRU(8, 4, order="permute"), "^order permute: .*mean permuted"),
    (lambda: MemoryTarget("positive"), "^name positive: .*mean positives"),
    (lambda: Factor(scale="avg"), "^scale avg: .*mean, none"),
    (lambda: LMMetric(SmoothAP(), memory_dual="non"), "^memory_dual non: .*mean none"),
    (lambda: LMMetric(SmoothAP(), pair_weighting="lerned"), "^pair_weighting lerned: .*mean learned"),
    (lambda: LMMetric(SmoothAP(), pair_weighting="learned"), "^pair_weighting learned needs a policy"),
    (lambda: LMMetric(SmoothAP(), policy=Policy(0, Sharpness()), pair_weighting="learned"), "pass input statistics"),
    (lambda: LMMetric(SmoothAP(), policy=Policy(0, Sharpness(), input="statistics"), pair_weighting="constant"),
     "^pair_weighting constant needs the values of its action: pass constant"),
    (lambda: LearnedWeights(Margin(6))(rows(), LABEL), "given none: pass triplets, as a miner of batchminer gives"),
    (lambda: LearnedWeights(SmoothAP())(rows(), LABEL[:, None]), r"\(B,\), not Tensor \(24, 8\) with Tensor \(24, 1\)"),
    (lambda: LearnedWeights(SmoothAP()).record(rows()[0], LABEL), r"not Tensor \(8,\) with Tensor \(24,\)"),
])
def test_errors_name_arguments(make, sentence, monkeypatch):
    monkeypatch.setattr(errors, "_in_command", False)
    with pytest.raises(UsageError, match=sentence) as caught:
        make()
    assert "--" not in str(caught.value)


def test_a_factor_is_of_each_anchor_unless_said_otherwise():
    assert LearnedWeights(SmoothAP(), Factor()).policy.granularity == "anchor"
    assert LearnedWeights(SmoothAP()).policy.granularity == "batch"


def test_the_use_in_the_docstring_runs_in_five_lines():
    use = re.findall(r"(?m)^ {8}(loss = .*\n(?: {8}.*\n)+)", LearnedWeights.__doc__)[0]
    lines = [line.strip() for line in use.strip().splitlines()]
    assert len(lines) == 5
    network = nn.Linear(3, DIM)
    before = network.weight.clone()
    scope = {"network": network, "image": torch.randn(len(LABEL), 3), "label": LABEL, "torch": torch,
             "LearnedWeights": LearnedWeights, "SmoothAP": SmoothAP}
    exec("\n".join(lines), scope)
    assert not torch.equal(network.weight, before)


class Own(nn.Module):
    """A network with the two methods of EmbeddingNetwork and nothing of ours."""

    memory = None
    projection = None

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
        self.head = nn.Linear(10, DIM)

    def forward(self, image):
        feature = self.trunk(image)
        return Features(feature, self.head(feature))

    def combine(self, embedding, context):
        return nn.functional.normalize(embedding if context is None else embedding + context)


def test_the_whole_method_takes_any_network_with_two_methods():
    network = Own()
    relation = GRU(10, DIM, hidden=6)
    policy = Policy(relation.state_dim, Sharpness())
    method = LMMetric(SmoothAP(tau=0.08), relation, policy, pair_weighting="learned", reward=Lookahead())
    groups = [{"params": network.parameters()}, *method.param_groups(policy_lr=0.1)]
    optimizer = torch.optim.Adam(groups, lr=1e-3)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3, 1e-3, 0.1]
    image = torch.randn(len(LABEL), 3, 4, 4)
    losses = []
    for _ in range(30):
        features = network(image)
        terms = method(network, features, method.relate(network, features), LABEL)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        losses.append(terms["metric"].item())
    assert {"metric", "metric_memory", "policy", "entropy", "total"} == terms.keys()
    assert losses[-1] < losses[0]


def test_every_argument_is_documented():
    text = LearnedWeights.__doc__
    for name in list(inspect.signature(LearnedWeights).parameters):
        assert re.search(rf"\b{name}: ", text), name


def test_a_batch_of_one_image_leaves_the_policy_finite():
    loss = LearnedWeights(SmoothAP(tau=0.1), granularity="anchor")
    optimizer = torch.optim.Adam(loss.param_groups(), lr=1e-3)
    value = loss(torch.ones(1, 4, requires_grad=True), torch.tensor([3]))
    value.backward()
    optimizer.step()
    assert value.isfinite()
    assert all(parameter.isfinite().all() for parameter in loss.parameters())
