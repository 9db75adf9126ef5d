"""The method as a whole: which term trains what, the controls, and a policy that learns what it is rewarded for."""
import copy

import pytest
import torch

from batchminer import select as select_miner
from criteria.method import ClassProxies
from criteria.method.decision import Actions
from criteria.method.pairs import pairs_of
from criteria.method.policy_gradient import advantage, credit, score_function_loss
from tests.criteria.method.small_method import DIM, LABEL, build, rewards_of, step
from utilities.errors import UsageError
from utilities.pairwise import unit


def test_plain_base_loss_is_the_base_loss():
    network, method = build(memory="none", relation=False, pair_weighting="uniform")
    features, _, terms = step(network, method)
    assert list(terms) == ["metric", "total"]
    assert torch.equal(terms["total"], method.base(unit(features.embedding), LABEL))


def test_full_method_has_all_terms_and_total_is_their_sum():
    _, _, terms = step(*build())
    assert list(terms) == ["metric", "metric_memory", "memory_nll", "policy", "entropy", "total"]
    torch.testing.assert_close(terms["total"], sum(v for k, v in terms.items() if k != "total"))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_autocast_around_the_method_changes_no_bit(kind):
    network, method = build()
    features = network(torch.randn(12, 3, 16, 16))
    terms = []
    for enabled in (False, True):
        own_network, own_method = copy.deepcopy((network, method))
        with torch.autocast("cpu", kind, enabled=enabled):
            related = own_method.relate(own_network, features)
            terms.append(own_method(own_network, features, related, LABEL))
    assert terms[0] == terms[1]


def trained_by(term, network, method):
    _, _, terms = step(network, method)
    for module in (network, method):
        module.zero_grad(set_to_none=True)
    terms[term].backward()
    parts = {"backbone": network.backbone, "projection": network.projection, "memory": network.memory,
             "relation": method.relation, "policy": method.policy}
    return {name for name, part in parts.items()
            if any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())}


def test_each_term_trains_only_what_it_should():
    network, method = build()
    step(network, method)  # actnorm takes its first batch
    assert trained_by("metric", network, method) == {"backbone", "projection", "relation"}
    assert trained_by("metric_memory", network, method) == {"backbone", "projection"}
    assert trained_by("memory_nll", network, method) == {"memory"}
    assert trained_by("policy", network, method) == {"policy"}


@pytest.mark.parametrize("loss", ["gpw", "margin", "multisimilarity", "smoothap"])
@pytest.mark.parametrize("granularity,action", [("batch", "sharpness"), ("anchor", "sharpness"), ("anchor", "weight")])
def test_learned_weights_run_on_every_pair_loss(loss, granularity, action):
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


def fixed_weights(method, b_p, b_n, z):
    """The pair weights of one sharpness, from the weighting itself."""
    return method.pair_weights((torch.full((1, 1), b_p), torch.full((1, 1), b_n)), pairs_of(z, LABEL))


def test_constant_control_weighs_by_the_given_sharpness():
    network, method = build(memory="none", relation=False, pair_weighting="constant", constant=(2.0, 20.0))
    _, related, terms = step(network, method)
    expected = method.base(related.z, LABEL, None, fixed_weights(method, 2.0, 20.0, related.z))
    assert torch.equal(terms["metric"], expected)
    assert "policy" not in terms


def test_both_losses_weigh_by_their_own_similarities():
    network, method = build(pair_weighting="constant", constant=(2.0, 20.0))
    step(network, method)  # actnorm takes its first batch
    features, related, terms = step(network, method)
    v = method.test_time_embedding(network, features)
    by_v = method.base(v, LABEL, None, fixed_weights(method, 2.0, 20.0, v))
    by_u = method.base(v, LABEL, None, fixed_weights(method, 2.0, 20.0, related.z))
    assert torch.equal(terms["metric_memory"], by_v)
    assert not torch.equal(terms["metric_memory"], by_u)


def test_shuffled_control_gives_the_policys_actions_to_other_anchors():
    _, method = build(memory="none", pair_weighting="shuffled", policy={"granularity": "anchor"})
    index = torch.arange(12).remainder(8).expand(8, 12)
    actions = Actions(index, index)
    decision = method.policy(torch.randn(12, 8), pairs_of(torch.randn(12, DIM), LABEL))
    values = method.training_action(decision, actions, LABEL)[0]
    plain = method.policy.grid_positive[actions.positive[:1]]
    assert not torch.equal(values, plain)
    assert torch.equal(values.sort().values, plain.sort().values)
    with pytest.raises(UsageError, match="granularity anchor"):
        build(pair_weighting="shuffled")


def test_random_control_draws_over_the_whole_grid():
    _, method = build(memory="none", pair_weighting="random")
    drawn = {method.training_action(None, None, LABEL)[1].item() for _ in range(200)}
    assert drawn == set(method.policy.grid_negative.tolist())


@pytest.mark.parametrize("act", ["greedy", "expected"])
def test_a_policy_that_is_sure_trains_with_its_action(act):
    _, method = build(memory="none", act=act)
    with torch.no_grad():
        method.policy.head_positive.bias[4] = 50.0
        method.policy.head_negative.bias[3] = 50.0
    z = unit(torch.randn(12, DIM))
    pairs = pairs_of(z, LABEL)
    decision = method.policy(torch.randn(12, 8), pairs)
    choice = method.training_action(decision, decision.draw(2, method.policy.stream), LABEL)
    weights = method.pair_weights(choice, pairs)
    expected = fixed_weights(method, 5.0, 20.0, z)
    torch.testing.assert_close(weights.positive, expected.positive)
    torch.testing.assert_close(weights.negative, expected.negative)


def test_published_reward_and_baseline_give_exactly_no_gradient():
    network, method = build(reward="batch_ap", policy={"granularity": "anchor", "action": "weight"}, entropy_bonus=0.0)
    _, _, terms = step(network, method)
    terms["policy"].backward()
    assert all(torch.count_nonzero(p.grad) == 0 for p in method.policy.parameters())


def test_policy_learns_the_best_sharpness_of_a_fixed_batch():
    """300 steps on one batch: the mean reward under the policy approaches the best of all 64 actions."""
    _, method = build(memory="none", relation=False, samples=8, entropy_bonus=0.0)
    z = unit(torch.randn(12, DIM, generator=torch.Generator().manual_seed(5)))
    pairs = pairs_of(z, LABEL)
    every = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    table = rewards_of(method, Actions(every[:, :1], every[:, 1:]), z, pairs).mean(-1)  # (64,)
    optimizer = torch.optim.Adam(method.policy.parameters(), lr=5e-2)
    for _ in range(300):
        decision = method.policy(None, pairs)
        actions = decision.draw(8, method.policy.stream)
        reward = credit(rewards_of(method, actions, z, pairs), 1, 0.0)
        loss = score_function_loss(decision.log_prob(actions), advantage(reward, "leave_one_out"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    decision = method.policy(None, pairs)
    joint = (decision.positive.exp().T * decision.negative.exp()).flatten()  # (64,)
    assert (joint * table).sum() > table.mean() + 0.8 * (table.max() - table.mean())


def test_sampling_once_needs_no_baseline():
    with pytest.raises(UsageError, match="policy_samples 2"):
        build(samples=1)


def test_the_term_of_the_proxies_is_that_of_the_embedding_with_its_context():
    network, method = build()
    method.proxies = ClassProxies(4, DIM)
    features, related, terms = step(network, method)
    assert torch.equal(terms["metric_proxies"], method.proxies(related.z, LABEL))
    assert not torch.equal(terms["metric_proxies"], method.proxies(features.embedding, LABEL))


def test_state_dict_round_trip_continues_the_draws():
    image = torch.randn(12, 3, 16, 16)
    network, method = build()
    step(network, method, image=image)
    saved = []
    for module in (network, method):
        saved.append({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in module.state_dict().items()})
    expected = step(network, method, image=image)[2]["total"]
    torch.manual_seed(123)
    other_network, other = build()
    other_network.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    other_network.train()
    assert torch.equal(step(other_network, other, image=image)[2]["total"], expected)
