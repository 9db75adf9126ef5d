"""Relation, policy and the weights that its actions mean."""
import math

import pytest
import torch

from criteria.decisions import Actions
from criteria.pair_statistics import anchor_statistics, batch_statistics, pair_statistics
from criteria.pair_weighting import BatchRelation, PairWeighting
from tests.oracles.policy import naive_anchor_statistics, naive_pair_statistics, naive_sharpness_weights
from utilities.errors import UsageError
from utilities.pairwise import negative_mask, positive_mask, unit

LABEL = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])                                  # the last class has one image


@pytest.fixture
def z():
    return unit(torch.randn(len(LABEL), 6, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["gru", "attention"])
def test_relation_ignores_the_order_of_the_batch_only_when_permuted_by_chance(kind):
    relation = BatchRelation(10, 6, kind=kind, hidden=8)
    context, state = relation(torch.randn(9, 10), torch.nn.Linear(10, 6))
    assert context.shape == (9, 6) and state.shape == (9, 8)


def test_permutation_is_undone():
    """A GRU that forgets its past at once gives each image what it gives it alone, wherever it was shuffled to."""
    relation, feature = BatchRelation(10, 6, hidden=8), torch.randn(9, 10)
    for name, parameter in relation.encoder.named_parameters():
        if "weight_hh" in name:
            torch.nn.init.zeros_(parameter)
        if "bias" in name:                                                         # update gate shut: h = new state
            with torch.no_grad():
                parameter[8:16] = -100.0
    context, state = relation(feature, None)
    for i in range(9):
        alone, alone_state = relation(feature[i:i + 1], None)
        torch.testing.assert_close(context[i:i + 1], alone)
        torch.testing.assert_close(state[i:i + 1], alone_state)


def test_context_depends_on_the_rest_of_the_batch_and_shuffling_changes_it():
    relation, feature = BatchRelation(10, 6, hidden=8), torch.randn(9, 10)
    first, _ = relation(feature, None)
    assert not torch.equal(first, relation(feature, None)[0])                      # another permutation
    fixed = BatchRelation(10, 6, hidden=8, order="batch")
    assert torch.equal(fixed(feature, None)[0], fixed(feature, None)[0])
    changed = feature.clone()
    changed[8] += 1
    assert not torch.allclose(fixed(feature, None)[0][0], fixed(changed, None)[0][0])


def test_shared_projection_is_the_networks_own():
    relation, projection = BatchRelation(10, 6, hidden=0, share_projection=True), torch.nn.Linear(10, 6)
    context, _ = relation(torch.randn(9, 10), projection)
    context.sum().backward()
    assert projection.weight.grad is not None
    with pytest.raises(UsageError, match="relation_hidden 0"):
        BatchRelation(10, 6, hidden=8, share_projection=True)


def test_relation_stream_is_in_the_state_dict():
    relation, feature = BatchRelation(10, 6, hidden=8), torch.randn(9, 10)
    relation(feature, None)
    state = {k: (v.clone() if isinstance(v, torch.Tensor) else v) for k, v in relation.state_dict().items()}
    expected = relation(feature, None)[0]
    other = BatchRelation(10, 6, hidden=8, seed=99)
    other.load_state_dict(state)
    assert torch.equal(other(feature, None)[0], expected)


def test_sharpness_weights_equal_the_formula(z):
    weighting = PairWeighting(0, input="statistics").double()
    actions = Actions(torch.tensor([[1], [2], [5]]), torch.tensor([[0], [3], [7]]))
    positive, negative = weighting.weights(actions, z, LABEL)
    for k in range(3):
        expected = naive_sharpness_weights(z.numpy(), LABEL.tolist(), weighting.grid_positive[actions.positive[k, 0]],
                                           weighting.grid_negative[actions.negative[k, 0]])
        torch.testing.assert_close(positive[k], torch.tensor(expected[0]), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(negative[k], torch.tensor(expected[1]), rtol=1e-9, atol=1e-12)


def test_sharpness_zero_is_uniform_and_large_is_the_hardest_pair(z):
    weighting = PairWeighting(0, input="statistics").double()
    zero = weighting.weights_of(torch.zeros(1, 1), torch.zeros(1, 1), z, LABEL)
    same = (LABEL[:, None] == LABEL) & ~torch.eye(9, dtype=torch.bool)
    assert torch.equal(zero.positive[0][same], torch.ones(int(same.sum()), dtype=torch.float64))
    large = weighting.weights_of(torch.full((1, 1), 1e4), torch.full((1, 1), 1e4), z, LABEL)
    s = z @ z.T
    hardest = s.masked_fill(LABEL[:, None] == LABEL, -2).argmax(1)
    assert torch.equal(large.negative[0].argmax(1), hardest)


def test_factors_have_a_mean_of_one_unless_published(z):
    label = LABEL
    actions = Actions(*(torch.randint(64, (4, 9)) for _ in range(2)))
    ours = PairWeighting(5, action="weight", granularity="anchor").weights(actions, z, label)
    torch.testing.assert_close(ours.positive.mean(1), torch.ones(4, 1))
    published = PairWeighting(5, action="weight", granularity="anchor", scale="none").weights(actions, z, label)
    torch.testing.assert_close(published.positive[..., 0], (actions.positive + 1) / 64)
    with pytest.raises(UsageError, match="granularity anchor"):
        PairWeighting(5, action="weight", granularity="batch")


@pytest.mark.parametrize("granularity,deciders", [("batch", 1), ("anchor", 9), ("pair", 81)])
@pytest.mark.parametrize("action", ["sharpness", "weight"])
def test_policy_starts_uniform_and_samples_what_it_says(z, granularity, deciders, action):
    weighting = PairWeighting(5, action=action, granularity=granularity, scale="none").double()
    decision = weighting(torch.randn(9, 5, dtype=torch.float64), z, LABEL)
    size = 8 if action == "sharpness" else 64
    torch.testing.assert_close(decision.positive.exp(), torch.full((deciders, size), 1 / size, dtype=torch.float64))
    torch.testing.assert_close(decision.entropy(), torch.full((deciders, 2), float(size)).log().double())
    with torch.no_grad():
        head = weighting.head_positive
        (head.anchor if granularity == "pair" else head).bias[3] += 2.0
    decision = weighting(torch.randn(9, 5, dtype=torch.float64), z, LABEL)
    actions = weighting.sample(decision, 4000)
    assert actions.positive.shape == (4000, deciders)
    share = (actions.positive[:, 0] == 3).double().mean().item()
    expected = decision.positive[0, 3].exp().item()
    assert abs(share - expected) < 5 * (expected * (1 - expected) / 4000) ** 0.5


def test_every_pair_has_its_own_sharpness_or_factor(z):
    """Weights by loops: softmax of b_ij s_ij, or factors divided by their mean over the anchor's pairs of a sign."""
    grid = torch.randint(8, (2, 81), generator=torch.Generator().manual_seed(1))
    same = LABEL[:, None] == LABEL
    for action in ("sharpness", "weight"):
        weighting = PairWeighting(0, action=action, granularity="pair", input="statistics", levels=8).double()
        ours = weighting.weights(Actions(grid[:1], grid[1:]), z, LABEL)
        for sign, mask in enumerate((same & ~torch.eye(9, dtype=torch.bool), ~same)):
            value = (weighting.grid_positive, weighting.grid_negative)[sign][grid[sign]].reshape(9, 9)
            for i in range(9):
                pairs = mask[i].nonzero()[:, 0].tolist()
                term = {j: value[i, j].item() for j in pairs}
                if action == "sharpness":
                    term = {j: math.exp((-1 if sign == 0 else 1) * b * (z[i] @ z[j]).item()) for j, b in term.items()}
                for j in pairs:
                    assert ours[sign][0, i, j].item() == pytest.approx(len(pairs) * term[j] / sum(term.values()))


def test_a_pair_is_judged_by_its_anchor_its_other_image_and_itself(z):
    weighting = PairWeighting(5, granularity="pair").double()
    head, state = weighting.head_negative, torch.randn(9, 5, dtype=torch.float64)
    with torch.no_grad():
        for layer in (head.anchor, head.other, head.pair):
            layer.weight.normal_()
    decision, x = weighting(state, z, LABEL), weighting.look(state, z, LABEL)
    pair = pair_statistics(z, LABEL)
    for i, j in ((0, 3), (7, 1), (8, 8)):
        logit = head.anchor.weight @ x[i] + head.other.weight @ x[j] + head.pair.weight @ pair[i, j]
        torch.testing.assert_close(decision.negative[9 * i + j], logit.log_softmax(-1))
        assert decision.applies[9 * i + j].tolist() == [False, i != j]


def test_expected_weights_are_the_mean_over_the_grid(z):
    weighting = PairWeighting(0, input="statistics").double()
    decision = weighting(None, z, LABEL)
    mean = weighting.expected_weights(decision, z, LABEL)
    every = Actions(*(torch.arange(8)[:, None] for _ in range(2)))
    by_hand = weighting.weights(every, z, LABEL)
    torch.testing.assert_close(mean.positive[0], by_hand.positive.mean(0))
    torch.testing.assert_close(mean.negative[0], by_hand.negative.mean(0))


@pytest.mark.parametrize("granularity", ["anchor", "pair"])
def test_expected_factors_are_the_weights_of_the_mean_factors(z, granularity):
    weighting = PairWeighting(0, input="statistics", action="weight", granularity=granularity, levels=4).double()
    logits = torch.randn(2, 9 if granularity == "anchor" else 81, 4, dtype=torch.float64)
    decision = weighting.decision(*logits)
    found = weighting.expected_weights(decision, z, LABEL)
    factors = (logits.softmax(-1) * torch.arange(1, 5) / 4).sum(-1).view(2, 9, -1)  # by sign, (9, 1 or 9)
    for sign, mask in enumerate((positive_mask(LABEL), negative_mask(LABEL))):
        f, counts = factors[sign], torch.ones(9, 1, dtype=torch.bool) if granularity == "anchor" else mask
        mean = f.mean(0) if granularity == "anchor" else (f * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(found[sign][0][counts], (f / mean)[counts])


def test_policy_inputs_are_detached(z):
    weighting, state = PairWeighting(5).double(), torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        weighting.head_positive.weight.normal_()
    rows = z.clone().requires_grad_()
    weighting(state, rows, LABEL).positive[:, 0].sum().backward()
    assert state.grad is None and rows.grad is None and weighting.head_positive.weight.grad is not None


def test_statistics_equal_naive_loops(z):
    raw, average, _ = naive_anchor_statistics(z.numpy(), LABEL.tolist())
    raw = torch.tensor(raw)
    standardised = (raw - raw.mean(0)) / raw.std(0).clamp(min=1e-6)
    torch.testing.assert_close(anchor_statistics(z, LABEL), standardised, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(batch_statistics(z, LABEL)[0], torch.tensor(average), rtol=1e-9, atol=1e-12)


def test_pair_statistics_equal_naive_loops(z):
    expected = torch.tensor(naive_pair_statistics(z.numpy(), LABEL.tolist()))
    torch.testing.assert_close(pair_statistics(z, LABEL), expected, rtol=1e-7, atol=1e-9)
