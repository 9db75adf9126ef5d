"""Every parameter in one group at its rate, clipping by hand, a backbone that waits and batch norm that stays."""
import copy
import io
import itertools

import pytest
import torch

from architectures.backbones import Backbone, ConvNet
from architectures.network import GeM, Network
from criteria import CRITERIA, select
from criteria.method import LMMetric
from criteria.method.class_proxies import ClassProxies
from criteria.method.relation import GRU
from tests.training.methods import batch, build
from training.ema import AveragedWeights
from training.large_batch import LargeBatchStep
from training.optimisation import Optimisation, Schedule, build_optimizer, parameter_groups

CONSTANT = Schedule("none", 1, 1)
RATES = {"lr": 1.0, "fc_lr": 2.0, "relation_lr": 3.0, "memory_lr": 4.0, "policy_lr": 5.0}
KINDS = {"adam": {}, "adamw": {}, "sgd": {}, "nesterov": {"optim": "sgd", "nesterov": True}, "rmsprop": {},
         "plain sgd": {"optim": "sgd", "momentum": 0.0}}


def optimizer_of(network, method, kind, lr=0.01, decay=0.1):
    return build_optimizer(parameter_groups(network, method, lr=lr), decay=decay, **{"optim": kind} | KINDS[kind])


def by_name(groups):
    return {group["name"]: group for group in groups}


# ------------------------------------------------------------------------------------------------- parameter groups


@pytest.mark.parametrize("loss", CRITERIA)
@pytest.mark.parametrize("learned", [True, False])
def test_every_parameter_is_in_one_group(loss, learned):
    network, method, _ = build(loss, learned=learned)
    groups = parameter_groups(network, method, **RATES)
    found = list(itertools.chain(*(group["params"] for group in groups)))
    expected = {p for module in (network, method) for p in module.parameters()}
    assert len(found) == len(set(found)) and set(found) == expected
    assert len(by_name(groups)) == len(groups)


def test_groups_have_their_names_rates_and_decay():
    network, method, _ = build("softtriplet")
    method.base.own_lr = 7.0
    groups = by_name(parameter_groups(network, method, **RATES))
    assert {name: group["lr"] for name, group in groups.items()} == {
        "backbone": 1, "new": 2, "memory": 4, "criterion": 7, "relation": 3, "policy": 5}
    assert {name for name, group in groups.items() if group.get("weight_decay") == 0} == {"criterion", "policy"}
    assert set(groups["new"]["params"]) == set(network.projection.parameters())
    assert set(groups["relation"]["params"]) == set(method.relation.parameters())


def test_a_learnt_pooling_is_new_and_has_no_decay():
    network, method, _ = build("gpw")
    network.pooling = GeM()
    groups = by_name(parameter_groups(network, method, **RATES))
    assert groups["pooling"] == {"name": "pooling", "params": [network.pooling.p], "lr": 2, "weight_decay": 0.0}
    network.hold_backbone(True)
    assert network.pooling.p.requires_grad


def test_proxies_of_classes_are_a_group_of_their_own():
    network, method, _ = build("gpw")
    method.proxies = ClassProxies(3, network.embed_dim, lr=0.3)
    groups = by_name(parameter_groups(network, method, **RATES))
    assert groups["proxies"] == {"name": "proxies", "params": [method.proxies.proxies], "lr": 0.3, "weight_decay": 0.0}


def test_rates_that_are_not_given_are_those_of_the_new_layers():
    network, method, _ = build("gpw")
    rates = {name: group["lr"] for name, group in by_name(parameter_groups(network, method, lr=1.0)).items()}
    assert rates == {"backbone": 1, "new": 1, "memory": 1, "relation": 1, "policy": 1e-2}
    rates = {name: group["lr"] for name, group in by_name(parameter_groups(network, method, lr=1.0, fc_lr=0)).items()}
    assert rates == {"backbone": 1, "new": 0, "memory": 0, "relation": 0, "policy": 1e-2}


def test_a_criterion_around_another_has_two_groups():
    network, method, _ = build("gpw")
    method.base = select("adversarial_separation", n_classes=4, embed_dim=8, on="softtriplet")
    assert {"criterion", "criterion_2"} <= set(by_name(parameter_groups(network, method, lr=1.0)))


def test_a_shared_projection_is_the_networks_alone():
    trunk = ConvNet(2)
    network = Network(Backbone(trunk, trunk.feature_dim), 8)
    method = LMMetric(select("gpw", n_classes=4, embed_dim=8),
                      GRU(trunk.feature_dim, 8, hidden=0, share_projection=True))
    groups = by_name(parameter_groups(network, method, **RATES))
    assert set(groups["relation"]["params"]).isdisjoint(network.projection.parameters())
    assert {p for group in groups.values() for p in group["params"]} == {*network.parameters(), *method.parameters()}


# --------------------------------------------------------------------------------------------------------- optimizers


def by_hand(kind, x, gradients, lr, decay):
    """The textbook's steps from x along given gradients; momentum .9, Adam's .9 and .999, RMSprop's .99."""
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for t, g in enumerate(gradients, start=1):
        if kind == "adamw":
            x = x - lr * decay * x
        else:
            g = g + decay * x
        if kind in ("adam", "adamw"):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            x = x - lr * (m / (1 - 0.9 ** t)) / ((v / (1 - 0.999 ** t)).sqrt() + 1e-8)
        elif kind == "rmsprop":
            v = 0.99 * v + 0.01 * g * g
            m = 0.9 * m + g / (v.sqrt() + 1e-8)
            x = x - lr * m
        else:
            m = (0.0 if kind == "plain sgd" else 0.9) * m + g
            x = x - lr * (g + 0.9 * m if kind == "nesterov" else m)
    return x


@pytest.mark.parametrize("kind", KINDS)
def test_each_optimizer_steps_as_its_formula(kind):
    x = torch.randn(6, dtype=torch.float64, requires_grad=True)
    gradients, start = torch.randn(5, 6, dtype=torch.float64), x.detach().clone()
    optimizer = build_optimizer([{"params": [x], "lr": 0.05, "name": "x"}], decay=0.2, **{"optim": kind} | KINDS[kind])
    take = Optimisation(optimizer, CONSTANT)
    for step, gradient in enumerate(gradients, start=1):
        x.grad = gradient.clone()
        take.step(step)
        assert x.grad is None
    torch.testing.assert_close(x.detach(), by_hand(kind, start, gradients, 0.05, 0.2))


def test_all_but_rmsprop_are_fused():
    for kind in KINDS:
        optimizer = build_optimizer([{"params": [torch.zeros(1, requires_grad=True)], "lr": 1.0}],
                                    **{"optim": kind} | KINDS[kind])
        assert bool(optimizer.defaults.get("fused")) == (kind != "rmsprop")


# --------------------------------------------------------------------------------------------------------------- steps


def two_groups(lr=1.0, **settings):
    """Plain gradient descent on two parameters with gradients (3, 0) and (0, 4): their norm is five."""
    a, b = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    groups = [{"name": "a", "params": [a], "lr": lr}, {"name": "b", "params": [b], "lr": 10 * lr},
              {"name": "idle", "params": [torch.ones(1, requires_grad=True)], "lr": lr}]
    take = Optimisation(build_optimizer(groups, optim="sgd", momentum=0.0), settings.pop("schedule", CONSTANT),
                        **settings)
    scale = take.scaler.get_scale()
    a.grad, b.grad = scale * torch.tensor([3.0, 0.0]), scale * torch.tensor([0.0, 4.0])
    return take, a, b


@pytest.mark.parametrize("clip,factor", [(0.0, 1.0), (100.0, 1.0), (2.5, 0.5), (0.05, 0.01)])
@pytest.mark.parametrize("half", [False, True])
def test_the_norm_over_all_parameters_is_clipped_after_the_scale_is_taken_out(clip, factor, half):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 12, enabled=half)
    if half:
        scaler.scale(torch.ones(()))
    take, a, b = two_groups(grad_clip=clip, scaler=scaler)
    assert take.step(1).item() == pytest.approx(5)
    torch.testing.assert_close(a.detach(), factor * torch.tensor([-3.0, 0.0]))
    torch.testing.assert_close(b.detach(), factor * torch.tensor([0.0, -40.0]))


def test_an_overflow_in_half_precision_is_passed_over():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 12)
    scaler.scale(torch.ones(()))
    take, a, b = two_groups(grad_clip=1.0, scaler=scaler)
    a.grad[0] = torch.inf
    assert not take.step(1).isfinite()
    assert torch.equal(torch.cat([a, b]).detach(), torch.zeros(4)) and scaler.get_scale() == 2.0 ** 11


def test_rates_follow_the_schedule_also_when_they_are_continued():
    schedule = Schedule("cosine", 10, 2, lr_min=0.1, warmup_epochs=0.5)
    take, *_ = two_groups(lr=0.2, schedule=schedule)
    for step in range(1, 14):
        take.step(step)
        assert take.rates() == {"a": schedule.rate(0.2, step), "b": schedule.rate(2.0, step),
                                "idle": schedule.rate(0.2, step)}
    continued, *_ = two_groups(lr=0.2, schedule=schedule)
    continued.load_state_dict(take.state_dict())
    for late in (continued, Optimisation(take.optimizer, schedule)):
        late.step(17)
        assert late.rates()["b"] == schedule.rate(2.0, 17)


# ------------------------------------------------------------------------------------ a whole network, over some steps


def start(kind="adam", *, frozen=True, frozen_affine=False, ema=0.0):
    """Network, what takes its steps, and what computes a gradient and takes one."""
    network, method, miner = build("gpw", frozen=frozen)
    if frozen_affine:
        network = Network(Backbone(network.backbone, network.feature_dim), network.embed_dim, frozen=True,
                          frozen_affine=True, memory=network.memory).double()
    take = Optimisation(optimizer_of(network, method, kind), CONSTANT,
                        average=AveragedWeights(network, ema) if ema else None)
    compute = LargeBatchStep(network, method, miner)

    def step(number=1):
        network.train()
        compute(batch(number))
        take.step(number)
    step.method = method
    return network, take, step


def state_of(network, take):
    """The backbone's parameters and buffers, and what the optimizer remembers of the parameters."""
    remembered = {name: take.optimizer.state.get(p) for name, p in network.backbone.named_parameters()}
    return copy.deepcopy([network.backbone.state_dict(), remembered])


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [True, False])
def test_a_backbone_that_is_held_stays_as_it_is_with_all_that_is_remembered_of_it(kind, frozen):
    network, take, step = start(kind, frozen=frozen)
    network.hold_backbone(True)
    before, head = state_of(network, take), network.projection.weight.detach().clone()
    for _ in range(3):
        step()
        network.embed(batch().image)
    after = state_of(network, take)
    assert not moved(before[0], after[0]) and after[1] == dict.fromkeys(after[1])
    assert not torch.equal(head, network.projection.weight)
    network.hold_backbone(False)
    step()
    assert moved(after[0], state_of(network, take)[0]) >= {name for name, _ in network.backbone.named_parameters()}
    if kind == "adam":                                                             # its count begins with its training
        steps = [int(take.optimizer.state[p]["step"]) for p in network.parameters() if p in take.optimizer.state]
        assert steps == len(list(network.backbone.parameters())) * [1] + (len(steps) - len(before[1])) * [4]


def test_held_again_what_is_remembered_of_the_backbone_stays():
    network, take, step = start("adam", frozen=False)
    step()
    network.hold_backbone(True)
    before = state_of(network, take)
    step()
    after = state_of(network, take)
    assert not moved(before[0], after[0])
    for name, remembered in before[1].items():
        assert not moved(remembered, after[1][name])


def test_a_held_backbone_works_as_at_test_time():
    network, _, _ = start(frozen=False)
    image = batch().image
    network.hold_backbone(True)
    held = network(image).feature
    network.hold_backbone(False)
    assert network.training and not torch.equal(network(image).feature, held)
    network.load_state_dict(start(frozen=False)[0].state_dict())
    assert torch.equal(network.eval()(image).feature, held)


def test_frozen_batch_norm_stays_frozen_through_warm_up_training_and_evaluation():
    norms = {"running_mean", "running_var", "num_batches_tracked"}
    affine = {"weight", "bias"}
    for frozen_affine in (False, True):
        network, take, step = start("adamw", frozen_affine=frozen_affine)
        begin = copy.deepcopy(network.state_dict())
        network.hold_backbone(True)
        step()
        network.hold_backbone(False)
        for _ in range(3):
            step()
            network.embed(batch().image)
        network.eval()
        step()
        changed = moved(begin, network.state_dict())
        layers = [name for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert len(layers) == 4
        for layer in layers:
            own = {name for name in norms | affine if f"{layer}.{name}" in changed}
            assert own == (set() if frozen_affine else affine)
        assert {f"backbone.{name}" for name, p in network.backbone.named_parameters() if p.ndim == 4} <= changed


def test_what_a_backbone_keeps_fixed_by_itself_is_not_trained_after_the_warm_up():
    trunk = ConvNet(2)
    trunk[0].weight.requires_grad_(False)
    network = Network(Backbone(trunk, trunk.feature_dim), 8)
    network.hold_backbone(True)
    assert not any(p.requires_grad for p in network.backbone.parameters())
    network.hold_backbone(False)
    assert [name for name, p in network.backbone.named_parameters() if not p.requires_grad] == ["0.weight"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_continued_in_its_warm_up_takes_the_same_steps(kind):
    runs = [start(kind, frozen=False, ema=0.9) for _ in range(2)]
    for network, _, step in runs:
        network.hold_backbone(True)
        step(1), step(2)
    network, take, step = runs[0]
    file = io.BytesIO()
    torch.save({"network": take.network_state(network), "method": step.method.state_dict(),
                "optimisation": take.state_dict()}, file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    runs[1][0].hold_backbone(False)
    runs[1][2](50)                                                          # goes elsewhere, and is brought back
    runs[1][0].hold_backbone(True)
    for part, name in ((runs[1][0], "network"), (runs[1][2].method, "method"), (runs[1][1], "optimisation")):
        part.load_state_dict(state[name])
    for network, _, step in runs:
        step(3)
        network.hold_backbone(False)
        step(4), step(5)
    (network, take, _), (other, again, _) = runs
    assert not moved(network.state_dict(), other.state_dict())
    assert not moved(take.average.average, again.average.average)


def test_evaluating_the_average_changes_no_later_step():
    networks = []
    for look in (False, True):
        network, take, step = start(ema=0.9)
        for number in range(1, 5):
            step(number)
            if look:
                with take.averaged():
                    averaged = network.embed(batch().image)
                assert torch.equal(averaged, network.embed(batch().image)) == (number == 1)
        networks.append(take.network_state(network))
    assert not moved(*networks)


def test_without_an_average_the_network_itself_is_evaluated():
    network, take, step = start()
    step()
    with take.averaged():
        assert not moved(network.state_dict(), take.network_state(network))
    assert take.state_dict()["average"] is None


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_a_step_does_not_wait_for_a_gpu(kind):
    x = torch.zeros(6, device="cuda", requires_grad=True)
    scaler = torch.amp.GradScaler("cuda")
    take = Optimisation(build_optimizer([{"params": [x], "lr": 0.1, "name": "x"}], optim=kind), CONSTANT,
                        scaler=scaler, grad_clip=1.0)
    scaler.scale(x.sum()).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        norm = take.step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert norm.item() == pytest.approx(6 ** 0.5)
