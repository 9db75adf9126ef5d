"""The relation over a batch: what it reads, in which order, and what it leaves to the network."""
import pytest
import torch

from criteria.method import RELATIONS
from criteria.method.relation import GRU, Attention
from utilities.errors import UsageError


def feature():
    return torch.randn(9, 10)


@pytest.mark.parametrize("name", RELATIONS)
def test_every_relation_gives_a_context_and_a_state_an_image(name):
    relation = RELATIONS[name](10, 6, hidden=8)
    context, state = relation(feature(), torch.nn.Linear(10, 6))
    assert context.shape == (9, 6)
    assert state.shape == (9, 8)


def test_permutation_is_undone():
    """A GRU that forgets its past at once gives each image what it gives it alone, wherever it was shuffled to."""
    relation = GRU(10, 6, hidden=8)
    for name, parameter in relation.encoder.named_parameters():
        if "weight_hh" in name:
            torch.nn.init.zeros_(parameter)
        if "bias" in name:
            # update gate shut: h is the new state
            with torch.no_grad():
                parameter[8:16] = -100.0
    batch = feature()
    context, state = relation(batch, None)
    for i in range(9):
        alone, alone_state = relation(batch[i:i + 1], None)
        torch.testing.assert_close(context[i:i + 1], alone)
        torch.testing.assert_close(state[i:i + 1], alone_state)


def test_context_depends_on_the_rest_of_the_batch_and_shuffling_changes_it():
    relation = GRU(10, 6, hidden=8)
    batch = feature()
    first, _ = relation(batch, None)
    assert not torch.equal(first, relation(batch, None)[0])  # another permutation
    fixed = GRU(10, 6, hidden=8, order="batch")
    assert torch.equal(fixed(batch, None)[0], fixed(batch, None)[0])
    changed = batch.clone()
    changed[8] += 1
    assert not torch.allclose(fixed(batch, None)[0][0], fixed(changed, None)[0][0])


@pytest.mark.parametrize("feature_dim, width", [(1, 8), (128, 64), (512, 256), (1280, 512), (520, 264)])
def test_the_state_is_half_as_wide_as_the_feature_in_eights_and_at_most_512(feature_dim, width):
    relation = GRU(feature_dim, 6)
    context, state = relation(torch.randn(3, feature_dim), None)
    assert context.shape == (3, 6) and state.shape == (3, width)


def test_attention_does_not_read_the_order():
    relation = Attention(10, 6, hidden=8, order="batch")
    batch = feature()
    order = torch.randperm(9)
    context, state = relation(batch, None)
    shuffled_context, shuffled_state = relation(batch[order], None)
    torch.testing.assert_close(shuffled_context, context[order])
    torch.testing.assert_close(shuffled_state, state[order])


def test_attention_refuses_a_width_that_its_heads_cannot_share():
    with pytest.raises(UsageError, match="among 4 heads, but its width is 66: pass a multiple of 4"):
        Attention(10, 6, hidden=66)


def test_shared_projection_is_the_networks_own():
    relation = GRU(10, 6, hidden=0, share_projection=True)
    projection = torch.nn.Linear(10, 6)
    context, _ = relation(feature(), projection)
    context.sum().backward()
    assert projection.weight.grad is not None
    with pytest.raises(UsageError, match="relation_hidden 0"):
        GRU(10, 6, hidden=8, share_projection=True)


def test_relation_stream_is_in_the_state_dict():
    relation = GRU(10, 6, hidden=8)
    batch = feature()
    relation(batch, None)
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in relation.state_dict().items()}
    expected = relation(batch, None)[0]
    other = GRU(10, 6, hidden=8, seed=99)
    other.load_state_dict(state)
    assert torch.equal(other(batch, None)[0], expected)
