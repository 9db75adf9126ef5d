"""The method as a whole: which term trains what, the controls, and a policy that learns what it is rewarded for."""
import numpy as np
import pytest
import torch

from architectures.backbones import Backbone, ConvNet
from architectures.memory import select as select_memory
from architectures.network import Network
from batchminer import select as select_miner
from criteria import select
from criteria.base import PairWeights
from criteria.class_proxies import ClassProxies
from criteria.decisions import Actions
from criteria.lm_metric import LMMetric
from criteria.pair_weighting import BatchRelation, PairWeighting
from criteria.policy_gradient import batch_ap, lookahead, score_function_loss
from criteria.policy_health import held_out_advantage, policy_record, weight_correlation
from datasets.base import Batch
from tests.oracles.policy import naive_average_precision
from utilities.errors import UsageError
from utilities.pairwise import unit

LABEL = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
DIM = 16


def build(loss="gpw", memory="realnvp", relation=True, policy=None, **arguments):
    trunk = ConvNet(4)
    network = Network(Backbone(trunk, trunk.feature_dim), DIM, memory=select_memory(memory, DIM, hidden=8, couplings=2))
    base = select(loss, n_classes=4, embed_dim=DIM)
    module = BatchRelation(trunk.feature_dim, DIM, hidden=8) if relation else None
    arguments = {"pair_weighting": "learned"} | arguments
    weighting = None
    if arguments["pair_weighting"] != "uniform":
        seen = {"input": "both" if relation else "statistics"}
        weighting = PairWeighting(8 if relation else 0, **seen | (policy or {}))
    return network, LMMetric(base, module, weighting, **arguments)


def step(network, method, triplets=None, image=None):
    features = network(torch.randn(12, 3, 16, 16) if image is None else image)
    related = method.relate(network, features)
    return features, related, method(network, features, related, LABEL, torch.arange(12), triplets)


def test_plain_base_loss_is_the_base_loss():
    network, method = build(memory="none", relation=False, pair_weighting="uniform")
    features, related, terms = step(network, method)
    assert list(terms) == ["metric", "total"]
    assert torch.equal(terms["total"], method.base(unit(features.embedding), LABEL))


def test_full_method_has_all_terms_and_total_is_their_sum():
    _, _, terms = step(*build())
    assert list(terms) == ["metric", "metric_memory", "memory_nll", "policy", "entropy", "total"]
    torch.testing.assert_close(terms["total"], sum(v for k, v in terms.items() if k != "total"))


def trained_by(term, network, method):
    _, _, terms = step(network, method)
    for module in (network, method):
        module.zero_grad(set_to_none=True)
    terms[term].backward()
    parts = {"backbone": network.backbone, "projection": network.projection, "memory": network.memory,
             "relation": method.relation, "policy": method.weighting}
    return {name for name, part in parts.items()
            if any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())}


def test_each_term_trains_only_what_it_should():
    network, method = build()
    step(network, method)                                                          # actnorm takes its first batch
    assert trained_by("metric", network, method) == {"backbone", "projection", "relation"}
    assert trained_by("metric_memory", network, method) == {"backbone", "projection"}
    assert trained_by("memory_nll", network, method) == {"memory"}
    assert trained_by("policy", network, method) == {"policy"}


@pytest.mark.parametrize("loss", ["gpw", "margin", "multisimilarity", "smoothap"])
@pytest.mark.parametrize("granularity", ["batch", "anchor", "pair"])
@pytest.mark.parametrize("action", ["sharpness", "continuous", "weight"])
def test_learned_weights_run_on_every_pair_loss(loss, granularity, action):
    if (granularity, action) == ("batch", "weight"):
        pytest.skip("refused: one factor divided by its mean is one")
    network, method = build(loss, policy={"granularity": granularity, "action": action})
    triplets = select_miner("random", seed=0)(torch.randn(12, DIM), LABEL) if method.base.needs_triplets else None
    _, _, terms = step(network, method, triplets)
    terms["total"].backward()
    assert all(torch.isfinite(term) for term in terms.values())


def test_proxies_take_weights_per_anchor_and_refuse_pairs():
    _, _, terms = step(*build("proxyanchor", policy={"granularity": "anchor", "action": "weight"}))
    assert torch.isfinite(terms["total"])
    with pytest.raises(UsageError, match="policy_action weight"):
        build("proxyanchor")


def test_constant_control_plays_the_given_sharpness():
    network, method = build(memory="none", relation=False, pair_weighting="constant", constant=(2.0, 20.0))
    features, related, terms = step(network, method)
    weights = method.weighting.weights_of(torch.full((1, 1), 2.0), torch.full((1, 1), 20.0), related.z, LABEL)
    expected = method.base(related.z, LABEL, None, type(weights)(*(w[0] for w in weights)))
    assert torch.equal(terms["metric"], expected) and "policy" not in terms


def test_shuffled_control_plays_the_policys_rows_in_another_order():
    network, method = build(memory="none", pair_weighting="shuffled", policy={"granularity": "anchor"})
    actions = Actions(*(torch.arange(12).remainder(8).expand(8, 12) for _ in range(2)))
    decision = method.weighting(torch.randn(12, 8), unit(torch.randn(12, DIM)), LABEL)
    values = method.play(actions, decision, LABEL)[0]
    plain = method.weighting.grid_positive[actions.positive[:1]]
    assert not torch.equal(values, plain) and torch.equal(values.sort().values, plain.sort().values)
    with pytest.raises(UsageError, match="granularity anchor"):
        build(pair_weighting="shuffled")


def test_random_control_of_a_continuous_action_is_the_policy_as_it_starts():
    _, method = build(memory="none", pair_weighting="random", policy={"action": "continuous"})
    seen = torch.tensor([method.play(None, None, LABEL)[1].item() / 40 for _ in range(300)]).log()
    assert abs(seen.mean()) < 0.3 and abs(seen.std() - 1) < 0.2


@pytest.mark.parametrize("policy", [{"action": "continuous", "granularity": "anchor"}, {"granularity": "pair"}])
def test_shuffled_expected_and_proxies_refuse_what_they_cannot(policy):
    if policy["granularity"] == "pair":
        with pytest.raises(UsageError, match="granularity anchor"):
            build(pair_weighting="shuffled", policy=policy)
        with pytest.raises(UsageError, match="policy_act greedy"):
            build(act="expected", policy=policy)
    else:
        with pytest.raises(UsageError, match="policy_act greedy"):
            build(act="expected", policy=policy)
        assert step(*build(pair_weighting="shuffled", policy=policy))[2]["total"].isfinite()
    with pytest.raises(UsageError, match="policy_action weight"):
        build("proxyanchor", policy=policy)


def test_random_control_draws_over_the_whole_grid():
    _, method = build(memory="none", pair_weighting="random")
    seen = {method.play(None, None, LABEL)[1].item() for _ in range(200)}
    assert seen == set(method.weighting.grid_negative.tolist())


def test_greedy_and_expected_actions():
    for act in ("greedy", "expected"):
        _, method = build(memory="none", act=act)
        with torch.no_grad():
            method.weighting.head_positive.bias[4] = 50.0
            method.weighting.head_negative.bias[3] = 50.0
        z = unit(torch.randn(12, DIM))
        decision = method.weighting(torch.randn(12, 8), z, LABEL)
        weights = method.weight(method.play(method.weighting.sample(decision, 2), decision, LABEL), z, LABEL)
        grids = method.weighting.grid_positive[4], method.weighting.grid_negative[3]
        expected = method.weighting.weights_of(*(g.reshape(1, 1) for g in grids), z, LABEL)
        torch.testing.assert_close(weights.positive, expected.positive[0])
        torch.testing.assert_close(weights.negative, expected.negative[0])


def test_published_reward_and_baseline_give_exactly_no_gradient():
    network, method = build(reward="batch_ap", policy={"granularity": "anchor", "action": "weight"}, entropy_bonus=0.0)
    _, _, terms = step(network, method)
    terms["policy"].backward()
    assert all(torch.count_nonzero(p.grad) == 0 for p in method.weighting.parameters())


def test_policy_learns_the_best_sharpness_of_a_fixed_batch():
    """300 steps on one batch: the mean reward under the policy approaches the best of all 64 actions."""
    _, method = build(memory="none", relation=False, samples=8, entropy_bonus=0.0)
    z = unit(torch.randn(12, DIM, generator=torch.Generator().manual_seed(5)))
    every = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    weights = method.weighting.weights(Actions(every[:, :1], every[:, 1:]), z, LABEL)
    table = lookahead(method.base, z, LABEL, None, weights, method.step).mean(-1)  # (64,)
    optimizer = torch.optim.Adam(method.weighting.parameters(), lr=5e-2)
    for _ in range(300):
        decision = method.weighting(None, z, LABEL)
        actions = method.weighting.sample(decision, 8)
        reward = method.rewards(actions, z, LABEL, None)
        loss = score_function_loss(decision.log_prob(actions), method.advantage(reward, decision))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    decision = method.weighting(None, z, LABEL)
    joint = (decision.positive.exp().T * decision.negative.exp()).flatten()        # (64,)
    assert (joint * table).sum() > table.mean() + 0.8 * (table.max() - table.mean())


def test_sampling_once_needs_no_baseline():
    with pytest.raises(UsageError, match="policy_samples 2"):
        build(samples=1)


def test_policy_record_leaves_the_policys_draws_alone():
    network, method = build()
    _, related, _ = step(network, method)
    before = method.weighting.stream.state_dict()["state"].clone()
    record = policy_record(method, related, LABEL, None)
    assert torch.equal(before, method.weighting.stream.state_dict()["state"])
    assert abs(sum(record["probability_positive"]) - 1) < 1e-5
    assert 0 <= record["reward"] <= 1


def naive_weight_correlation(method, actions, z, label, sign):
    """From loops over images and pairs."""
    apart, values = z @ z.T, method.weighting.values(actions)
    rows = []
    for i in range(len(label)):
        pairs = [j for j in range(len(label)) if j != i and (label[j] == label[i]) == (sign == 0)]
        if not pairs or (label == label[i]).sum() < 2:
            continue
        largest = []
        for k in range(len(values[0])):
            value = values[sign][k, min(i, values[sign].shape[1] - 1)].item()
            found = [(1 if sign else -1) * value * apart[i, j].item() for j in pairs]
            top = np.exp(np.array(found) - max(found))
            largest.append((len(pairs) * top / top.sum()).max())
        rows.append((np.mean(largest), naive_average_precision(apart, label.tolist(), i)))
    return np.corrcoef(np.array(rows).T)[0, 1]


@pytest.mark.parametrize("granularity", ["batch", "anchor"])
def test_correlation_of_weights_with_ap_is_that_of_loops(granularity):
    label = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3])                        # one image without a positive pair
    z = unit(torch.randn(11, DIM))
    _, method = build(relation=False, memory="none", policy={"granularity": granularity})
    actions = Actions(*torch.randint(0, 8, (2, 3, 11 if granularity == "anchor" else 1)))
    found = weight_correlation(method.weighting.weights(actions, z, label), z, label)
    assert list(found) == ["correlation_positive", "correlation_negative"]
    for sign, value in enumerate(found.values()):
        assert value == pytest.approx(naive_weight_correlation(method, actions, z, label, sign), abs=1e-4)


def test_correlation_of_factors_is_that_of_the_factors_and_none_where_nothing_varies():
    z, ones = unit(torch.randn(12, DIM)), torch.ones(2, 12, 1)
    factor = torch.rand(2, 12, 1)
    found = weight_correlation(PairWeights(factor, ones), z, LABEL)
    ap = batch_ap(z, LABEL)
    assert found["correlation_positive"] == pytest.approx(np.corrcoef(factor.mean(0)[:, 0], ap)[0, 1], abs=1e-5)
    assert found["correlation_negative"] is None                                   # uniform weights
    rounded = torch.ones(2, 12, 12) + 1e-7 * torch.randn(2, 12, 12)
    assert set(weight_correlation(PairWeights(rounded, rounded), z, LABEL).values()) == {None}
    alone = torch.arange(12)                                                       # no image has another of its class
    assert set(weight_correlation(PairWeights(factor, factor), z, alone).values()) == {None}
    perfect = weight_correlation(PairWeights(factor, factor), unit(torch.eye(4)[LABEL]), LABEL)
    assert set(perfect.values()) == {None}                                         # AP is 1 for all


def test_the_term_of_the_proxies_is_that_of_the_embedding_with_its_context():
    network, method = build()
    method.proxies = ClassProxies(4, DIM)
    features, related, terms = step(network, method)
    assert torch.equal(terms["metric_proxies"], method.proxies(related.z, LABEL))
    assert not torch.equal(terms["metric_proxies"], method.proxies(features.embedding, LABEL))


def test_a_look_at_held_out_classes_leaves_every_draw_of_training_alone():
    made = [Batch(torch.randn(12, 3, 16, 16), LABEL, torch.arange(12)) for _ in range(2)]
    network, method = build()
    step(network, method)
    before = [part.stream.state_dict()["state"].clone() for part in (method.relation, method.weighting)]
    found = [held_out_advantage(method, network, None, made, torch.device("cpu")) for _ in range(2)]
    assert found[0] == found[1]
    for state, part in zip(before, (method.relation, method.weighting)):
        assert torch.equal(state, part.stream.state_dict()["state"])


def test_held_out_advantage_counts_its_batches():
    network, method = build()
    made = [Batch(torch.randn(12, 3, 16, 16), LABEL, torch.arange(12)) for _ in range(3)]
    step(network, method)
    found = held_out_advantage(method, network, None, made, torch.device("cpu"))
    assert found["batches"] == 3 and -1 <= found["mean"] <= 1 and found["standard_error"] >= 0
    assert held_out_advantage(method, network, None, made[:1], torch.device("cpu"))["standard_error"] is None


def test_state_dict_round_trip_continues_the_draws():
    image = torch.randn(12, 3, 16, 16)
    network, method = build()
    step(network, method, image=image)
    saved = [{k: (v.clone() if isinstance(v, torch.Tensor) else v) for k, v in module.state_dict().items()}
             for module in (network, method)]
    expected = step(network, method, image=image)[2]["total"]
    torch.manual_seed(123)
    other_network, other = build()
    other_network.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    other_network.train()
    assert torch.equal(step(other_network, other, image=image)[2]["total"], expected)
