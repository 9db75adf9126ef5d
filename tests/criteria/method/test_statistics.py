"""The pairs of a batch and their statistics against naive loops."""
import pytest
import torch

from criteria.method.pairs import pairs_of
from criteria.method.statistics import anchor_statistics, batch_statistics
from tests.oracles.policy import naive_anchor_statistics
from utilities.pairwise import unit

LABEL = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])  # the last class has one image


@pytest.fixture
def z():
    return unit(torch.randn(len(LABEL), 6, dtype=torch.float64))


def test_statistics_equal_naive_loops(z):
    raw, average, _ = naive_anchor_statistics(z.numpy(), LABEL.tolist())
    raw = torch.tensor(raw)
    standardised = (raw - raw.mean(0)) / raw.std(0).clamp(min=1e-6)
    pairs = pairs_of(z, LABEL)
    torch.testing.assert_close(anchor_statistics(pairs), standardised, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(batch_statistics(pairs)[0], torch.tensor(average), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("anchors", [None, 4])
def test_pairs_are_those_of_loops(z, anchors):
    pairs = pairs_of(3 * z, LABEL, anchors)
    for i in range(anchors or len(LABEL)):
        for j in range(len(LABEL)):
            same = bool(LABEL[i] == LABEL[j])
            assert pairs.positive[i, j] == (same and i != j)
            assert pairs.negative[i, j] == (not same)
            assert pairs.similarity[i, j].item() == pytest.approx((z[i] @ z[j]).item())


def test_other_embeddings_of_the_same_images_share_the_signs(z):
    pairs = pairs_of(z, LABEL)
    other = torch.randn_like(z)
    found = pairs.with_rows(other)
    assert found.positive is pairs.positive
    for mine, expected in zip(found, pairs_of(other, LABEL)):
        assert torch.equal(mine, expected)


def test_pairs_carry_no_gradient(z):
    pairs = pairs_of(z.requires_grad_(), LABEL)
    assert not pairs.similarity.requires_grad
