"""The published configuration against a slow oracle: what `--recipe paper` computes in a step."""
import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from batchminer import select as select_miner
from criteria import select
from criteria.base import PairWeights
from criteria.method import SecondLoss
from parameters import get_options
from tests.oracles import ORACLES
from training.building import build_method, build_network, build_optimisation

LABEL = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
SMALL = ["--recipe", "paper", "--embed_dim", "64", "--memory_channels", "4", "--memory_steps", "2"]


def built(*more):
    """Options, network and method of the published recipe on the small network, and a batch."""
    opt = get_options([*SMALL, *more])
    torch.manual_seed(0)
    network = build_network(opt).double()
    method = build_method(opt, network, n_classes=3).double()
    with torch.no_grad():
        for parameter in network.memory.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    features = network(torch.rand(8, 3, 32, 32, dtype=torch.float64))
    return opt, network.train(), method.train(), features


def own_rank_ap(x, label):
    """The average precision of every image among the others, by sorting."""
    x = x.detach()
    values = []
    for i in range(len(x)):
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: -float(x[i] @ x[j]))
        hits = 0
        precisions = []
        for rank, j in enumerate(others, 1):
            if label[j] == label[i]:
                hits += 1
                precisions.append(hits / rank)
        values.append(sum(precisions) / len(precisions))
    return torch.tensor(values, dtype=torch.float64)


def test_a_step_of_the_published_recipe():
    opt, network, method, features = built()
    related = method.relate(network, features)
    twin = copy.deepcopy(method)
    memory = copy.deepcopy(network.memory)
    torch.manual_seed(5)
    terms = method(network, features, related, LABEL, torch.arange(8), None)

    feature, e = features.feature, features.embedding
    states, _ = method.relation.encoder(feature)
    forward, backward = states.chunk(2, 1)
    c_logit = network.projection((forward + backward) / 2)
    u = normalize(e + c_logit.sigmoid())
    torch.testing.assert_close(related.z, u)

    phi = []
    log_pi = 0.0
    drawn = twin.decide(related.state, None)[1]
    for head, action in zip((twin.policy.head_positive, twin.policy.head_negative), drawn):
        log_p = head(forward.detach()).log_softmax(1)
        phi.append((action[0] + 1) / 64)
        log_pi = log_pi + log_p.gather(1, action.T)[:, 0]
    weights = [p.double().expand(8, 8).T.numpy() for p in phi]

    def smoothap(x):
        rows = x.detach().numpy()
        return ORACLES["smoothap"](rows, LABEL.tolist(), [], *weights, "rank", {}, tau=0.01)

    assert terms["metric"].item() == pytest.approx(smoothap(u), rel=1e-9)

    torch.manual_seed(5)
    noise = 0.6 * torch.randn(8, 64)
    c_hat = memory.flow.inverse(noise.double(), e)[0].sigmoid()
    v = normalize(e + c_hat)
    assert terms["metric_memory"].item() == pytest.approx(smoothap(v), rel=1e-6)

    torch.testing.assert_close(terms["policy"], -(own_rank_ap(u, LABEL) * log_pi).mean())
    assert terms["entropy"] == 0
    assert method.memory_weight == 64


def test_the_likelihood_is_summed_over_the_dimensions():
    _, network, method, features = built()
    network.memory.eval()
    related = method.relate(network, features)
    terms = method(network, features, related, LABEL, torch.arange(8), None)
    c = related.context_logit.sigmoid().detach()
    y = (0.95 * (2 * (255 * c + 0.5) / 256 - 1) + 1) / 2
    z, log_det = network.memory.flow((y / (1 - y)).log(), features.embedding)
    log_p = -0.5 * (z.square() + np.log(2 * np.pi)).sum(1) + log_det
    log_p = log_p + (np.log(0.95) - (y * (1 - y)).log()).sum(1)
    torch.testing.assert_close(terms["memory_nll"], -log_p.mean())


def test_the_second_loss_reaches_the_flow_and_the_embedding():
    _, network, method, features = built()
    related = method.relate(network, features)
    terms = method(network, features, related, LABEL, torch.arange(8), None)
    terms["metric_memory"].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.memory.parameters())


def test_a_perfect_order_has_an_average_precision_above_one():
    """Four images of two classes, phi = 1/64."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    criterion = select("smoothap", n_classes=2, embed_dim=2, weight_on="rank")
    weight = torch.full((4, 1), 1 / 64)
    loss = criterion(x, torch.tensor([0, 0, 1, 1]), None, PairWeights(weight, weight))
    # the two ties count one half each
    assert 1 - loss.item() == pytest.approx(1.5 / (1 + 0.5 / 64), rel=1e-6)


def test_proxies_of_the_second_loss_are_its_own():
    opt, network, method, features = built("--loss", "proxyanchor")
    first, second = method.base.proxies, method.second_loss.criterion.proxies
    assert first.shape == second.shape and not torch.equal(first, second)
    related = method.relate(network, features)
    terms = method(network, features, related, LABEL, torch.arange(8), None)
    terms["metric_memory"].backward()
    assert first.grad is None and second.grad.abs().max() > 0
    groups = build_optimisation(opt, network, method, epoch_steps=4).optimizer.param_groups
    trained = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert trained[id(first)] == trained[id(second)] == 1e-2


def test_margin_mines_again_from_the_second_embedding():
    _, _, method, _ = built("--loss", "margin")
    assert method.base.beta == 1.2 and not list(method.base.parameters())
    second = method.second_loss
    v = normalize(torch.randn(8, 64, dtype=torch.float64))
    weights = PairWeights(*torch.rand(2, 8, 1, dtype=torch.float64))
    state = second.get_extra_state()
    triplets = select_miner("distance", seed=1)
    triplets.load_state_dict(state)
    expected = method.base(v, LABEL, triplets(v, LABEL), weights)
    assert torch.equal(second(v, LABEL, weights), expected)
    again = second(v, LABEL, weights)
    second.set_extra_state(state)
    assert torch.equal(second(v, LABEL, weights), expected) and not torch.equal(again, expected)


def test_weights_of_the_transformer_reach_two():
    _, _, method, _ = built("--policy_levels", "128", "--policy_largest", "2", "--no-relation_bidirectional")
    grid = method.policy.grid_positive
    torch.testing.assert_close(grid, torch.arange(1, 129) / 64, check_dtype=False)
    states = method.relation.encode(torch.randn(8, method.relation.state_dim).double())
    assert states.shape == (8, 1, method.relation.state_dim)


def test_a_second_loss_without_a_miner_keeps_no_state():
    loss = SecondLoss(select("smoothap", n_classes=2, embed_dim=2))
    loss.load_state_dict(loss.state_dict())
    assert loss.get_extra_state() is None
