"""What a policy is worth, in numbers, against loops; and that looking leaves training alone."""
import numpy as np
import pytest
import torch

from criteria.base import PairWeights
from criteria.method.decision import Actions
from criteria.method.health import (
    held_out_advantage,
    policy_record,
    related_batches,
    weight_correlation,
)
from criteria.method.pairs import pairs_of
from criteria.method.rewards import batch_ap
from datasets.base import Batch
from tests.criteria.method.small_method import DIM, LABEL, build, rewards_of, step
from tests.oracles.policy import naive_average_precision
from utilities.pairwise import unit


def test_policy_record_leaves_the_policys_draws_alone():
    network, method = build()
    _, related, _ = step(network, method)
    before = method.policy.stream.state_dict()["state"].clone()
    record = policy_record(method, related, LABEL, None)
    assert torch.equal(before, method.policy.stream.state_dict()["state"])
    assert abs(sum(record["probability_positive"]) - 1) < 1e-5
    assert 0 <= record["reward"] <= 1


@pytest.mark.parametrize("reward", ["batch_ap", "lookahead"])
def test_the_reward_that_is_recorded_is_the_reward_that_trains(reward):
    network, method = build(reward=reward)
    _, related, _ = step(network, method)
    record = policy_record(method, related, LABEL, None)
    pairs = pairs_of(related.z, LABEL)
    # as the record's copy of the stream drew
    actions = method.policy(related.state, pairs).draw(8, method.policy.stream)
    expected = rewards_of(method, actions, related.z, pairs).mean()
    assert record["reward"] == pytest.approx(expected.item(), abs=1e-6)


def naive_weight_correlation(method, actions, z, label, sign):
    """From loops over images and pairs."""
    s = z @ z.T
    values = method.policy.values(actions)[sign]
    rows = []
    for i in range(len(label)):
        pairs = [j for j in range(len(label)) if j != i and (label[j] == label[i]) == (sign == 0)]
        if not pairs or (label == label[i]).sum() < 2:
            continue
        largest = []
        for k in range(len(values)):
            b = values[k, min(i, values.shape[1] - 1)].item()
            logits = np.array([(1 if sign else -1) * b * s[i, j].item() for j in pairs])
            weights = np.exp(logits - logits.max())
            largest.append((len(pairs) * weights / weights.sum()).max())
        rows.append((np.mean(largest), naive_average_precision(s, label.tolist(), i)))
    return np.corrcoef(np.array(rows).T)[0, 1]


@pytest.mark.parametrize("granularity", ["batch", "anchor"])
def test_correlation_of_weights_with_ap_is_that_of_loops(granularity):
    label = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3])  # one image without a positive pair
    z = unit(torch.randn(11, DIM))
    _, method = build(relation=False, memory="none", policy={"granularity": granularity})
    deciders = 11 if granularity == "anchor" else 1
    actions = Actions(torch.randint(0, 8, (3, deciders)), torch.randint(0, 8, (3, deciders)))
    pairs = pairs_of(z, label)
    found = weight_correlation(method.policy.weights(method.policy.values(actions), pairs), z, pairs)
    assert list(found) == ["correlation_positive", "correlation_negative"]
    for sign, value in enumerate(found.values()):
        assert value == pytest.approx(naive_weight_correlation(method, actions, z, label, sign), abs=1e-4)


def correlations(weights, z, label=LABEL):
    return weight_correlation(weights, z, pairs_of(z, label))


def test_correlation_of_factors_is_that_of_the_factors_and_none_where_nothing_varies():
    z = unit(torch.randn(12, DIM))
    ones = torch.ones(2, 12, 1)
    factor = torch.rand(2, 12, 1)
    found = correlations(PairWeights(factor, ones), z)
    ap = batch_ap(z, pairs_of(z, LABEL).positive)
    assert found["correlation_positive"] == pytest.approx(np.corrcoef(factor.mean(0)[:, 0], ap)[0, 1], abs=1e-5)
    assert found["correlation_negative"] is None  # uniform weights
    rounded = torch.ones(2, 12, 12) + 1e-7 * torch.randn(2, 12, 12)
    assert set(correlations(PairWeights(rounded, rounded), z).values()) == {None}
    both = PairWeights(factor, factor)
    alone = torch.arange(12)  # no image has another of its class
    assert set(correlations(both, z, alone).values()) == {None}
    assert set(correlations(both, unit(torch.eye(4)[LABEL])).values()) == {None}  # AP is 1 for all


def batches(number):
    return [Batch(torch.randn(12, 3, 16, 16), LABEL, torch.arange(12)) for _ in range(number)]


def test_held_out_classes_leave_every_draw_of_training_alone():
    held_out = batches(2)
    network, method = build()
    step(network, method)
    before = [part.stream.state_dict()["state"].clone() for part in (method.relation, method.policy)]
    found = [held_out_advantage(method, network, None, held_out, torch.device("cpu")) for _ in range(2)]
    assert found[0] == found[1]
    for state, part in zip(before, (method.relation, method.policy)):
        assert torch.equal(state, part.stream.state_dict()["state"])


def test_held_out_batches_have_the_backbone_in_its_precision():
    network, method = build()
    step(network, method)
    some = batches(1)
    [[full, *_], [half, *_]] = (next(related_batches(method, network, some, torch.device("cpu"), amp))
                                for amp in ("none", "bf16"))
    assert not torch.equal(full.embedding, half.embedding)
    torch.testing.assert_close(full.embedding, half.embedding, rtol=0.05, atol=0.05)


def test_held_out_advantage_counts_its_batches():
    held_out = batches(3)
    network, method = build()
    step(network, method)
    found = held_out_advantage(method, network, None, held_out, torch.device("cpu"))
    assert found["batches"] == 3
    assert -1 <= found["mean"] <= 1
    assert found["standard_error"] >= 0
    assert held_out_advantage(method, network, None, held_out[:1], torch.device("cpu"))["standard_error"] is None
