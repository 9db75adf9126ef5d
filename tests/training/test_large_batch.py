"""Cutting the graph at the features changes nothing: gradients by chunks and by one graph, for every criterion."""
import pytest
import torch

from criteria import CRITERIA
from tests.training.methods import POLICIES, batch, build, by_one_graph, gradients
from training.large_batch import LargeBatchStep

CLOSE = {"rtol": 1e-6, "atol": 1e-10}


def compare(loss, chunk, steps=2, **settings):
    """A few steps of gradient descent by the engine and by one graph."""
    engine, graph = build(loss, **settings), build(loss, **settings)
    compute = LargeBatchStep(*engine, chunk=chunk)
    optimizers = [torch.optim.SGD([*parts[0].parameters(), *parts[1].parameters()], lr=0.01)
                  for parts in (engine, graph)]
    for step in range(steps):
        data = batch(step)
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.manual_seed(step)
        terms = compute(data).terms
        after = torch.get_rng_state()
        torch.manual_seed(step)
        expected = by_one_graph(*graph, data, chunk or len(data.label))
        assert list(terms) == list(expected)
        for name in terms:
            torch.testing.assert_close(terms[name], expected[name], **CLOSE, msg=lambda m, name=name: f"{name}: {m}")
        found, wanted = gradients(*engine[:2]), gradients(*graph[:2])
        assert any(g.abs().sum() > 0 for name, g in wanted.items() if name.startswith("0.backbone"))
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], **CLOSE, msg=lambda m, name=name: f"{name}: {m}")
        assert torch.equal(after, torch.get_rng_state())                           # and draws on alike
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("chunk", [0, 5])
@pytest.mark.parametrize("loss", CRITERIA)
def test_gradients_of_every_criterion(loss, chunk):
    compare(loss, chunk)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("loss", ["gpw", "margin"])
def test_gradients_with_every_policy(loss, policy):
    compare(loss, 5, policy=POLICIES[policy])


@pytest.mark.parametrize("memory", ["glow", "constant", "mlp", "none"])
def test_gradients_with_every_memory(memory):
    compare("gpw", 4, memory=memory)


def test_gradients_with_proxies_of_the_classes():
    compare("gpw", 5, proxies=True)


def test_dropout_is_drawn_alike_in_both_passes():
    compare("smoothap", 5, dropout=0.3)


@pytest.mark.parametrize("chunk", [0, 8])
def test_batch_norm_learns_its_statistics_once(chunk):
    engine, graph = build("gpw", frozen=False), build("gpw", frozen=False)
    LargeBatchStep(*engine, chunk=chunk)(batch())
    by_one_graph(*graph, batch(), chunk or 16)
    for (name, found), wanted in zip(engine[0].named_buffers(), graph[0].buffers()):
        torch.testing.assert_close(found, wanted, msg=lambda m, name=name: f"{name}: {m}")


def test_chunks_bound_what_the_backbone_sees():
    network, method, miner = build("gpw")
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    LargeBatchStep(network, method, miner, chunk=6)(batch())
    assert seen == [6, 5, 5, 6, 5, 5]


def test_a_frozen_backbone_gets_no_gradient():
    network, method, miner = build("gpw")
    network.backbone.requires_grad_(False)
    LargeBatchStep(network, method, miner, chunk=6)(batch())
    assert all(p.grad is None for p in network.backbone.parameters())
    assert all(p.grad is not None for p in network.projection.parameters())


def spoiled(*parts):
    """The loss of a step of a network, and method, that hold no number any more."""
    with torch.no_grad():
        for p in [*parts[0].parameters(), *parts[1].parameters()]:
            p.fill_(torch.nan)
    compute = LargeBatchStep(*parts)
    return [compute(batch(step)).terms["total"] for step in range(3)]


@pytest.mark.parametrize("loss", CRITERIA)
def test_what_is_no_number_goes_through_every_criterion_to_whoever_watches(loss):
    assert all(total.isnan() for total in spoiled(*build(loss)))


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_no_number_goes_through_every_policy(policy):
    assert all(total.isnan() for total in spoiled(*build("gpw", policy=POLICIES[policy])))


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_on_a_gpu_in_every_precision(amp):
    network, method, miner = build("gpw")
    network.float().cuda(), method.float().cuda()
    data = batch()
    data = data._replace(image=data.image.float().cuda(), label=data.label.cuda(), index=data.index.cuda())
    scaler = torch.amp.GradScaler("cuda", enabled=amp == "fp16")
    terms = LargeBatchStep(network, method, miner, amp=amp, scaler=scaler, chunk=6)(data).terms
    assert all(torch.isfinite(term) for term in terms.values())
