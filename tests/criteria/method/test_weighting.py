"""The weights that actions mean, against loops and closed forms."""
import pytest
import torch

from criteria.method import WEIGHTINGS
from criteria.method.pairs import pairs_of
from criteria.method.weighting import NEGATIVE, POSITIVE, Factor, Sharpness, grid_tensors
from tests.oracles.policy import naive_sharpness_weights
from utilities.pairwise import unit

LABEL = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])  # the last class has one image


@pytest.fixture
def z():
    return unit(torch.randn(len(LABEL), 6, dtype=torch.float64))


def test_sharpness_weights_equal_the_formula(z):
    pairs = pairs_of(z, LABEL)
    b_p = torch.tensor([[-5.0], [0.0], [10.0]], dtype=torch.float64)
    b_n = torch.tensor([[0.0], [20.0], [320.0]], dtype=torch.float64)
    positive = Sharpness().weights(b_p, POSITIVE, pairs)
    negative = Sharpness().weights(b_n, NEGATIVE, pairs)
    for k in range(3):
        expected = naive_sharpness_weights(z.numpy(), LABEL.tolist(), b_p[k, 0], b_n[k, 0])
        torch.testing.assert_close(positive[k], torch.tensor(expected[0]), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(negative[k], torch.tensor(expected[1]), rtol=1e-9, atol=1e-12)


def test_sharpness_zero_is_uniform_and_large_is_the_hardest_pair(z):
    pairs = pairs_of(z, LABEL)
    uniform = Sharpness().weights(torch.zeros(1, 1), POSITIVE, pairs)[0]
    assert torch.equal(uniform[pairs.positive], torch.ones(int(pairs.positive.sum()), dtype=torch.float64))
    large = Sharpness().weights(torch.full((1, 1), 1e4), NEGATIVE, pairs)[0]
    hardest = pairs.similarity.masked_fill(~pairs.negative, -2).argmax(1)
    assert torch.equal(large.argmax(1), hardest)


def test_every_anchor_has_its_own_sharpness(z):
    pairs = pairs_of(z, LABEL)
    b = torch.linspace(0, 40, 9, dtype=torch.float64)
    weights = Sharpness().weights(b[None], NEGATIVE, pairs)[0]
    for i in range(9):
        alone = Sharpness().weights(b[i].reshape(1, 1), NEGATIVE, pairs)[0]
        torch.testing.assert_close(weights[i], alone[i])


@pytest.mark.parametrize("sign", [POSITIVE, NEGATIVE])
def test_weights_reach_over_reference_rows(z, sign):
    """The weights of a row of anchors among references are those of that row in the square matrix."""
    b = torch.full((1, 1), 5.0, dtype=torch.float64)
    square = Sharpness().weights(b, sign, pairs_of(z, LABEL))
    part = Sharpness().weights(b, sign, pairs_of(z, LABEL, 4))
    torch.testing.assert_close(part, square[:, :4])


@pytest.mark.parametrize("sign", [POSITIVE, NEGATIVE])
def test_mean_sharpness_weights_are_the_mean_over_the_grid(z, sign):
    pairs = pairs_of(z, LABEL)
    grid = grid_tensors(Sharpness())[sign].double()
    probability = torch.rand(1, 8, dtype=torch.float64).softmax(-1)
    mean = Sharpness().mean_weights(probability, grid, sign, pairs)[0]
    each = [p * Sharpness().weights(b.reshape(1, 1), sign, pairs)[0] for p, b in zip(probability[0], grid)]
    torch.testing.assert_close(mean, torch.stack(each).sum(0))


def test_factors_have_a_mean_of_one_unless_published(z):
    pairs = pairs_of(z, LABEL)
    factor = torch.randint(1, 65, (4, 9)) / 64
    ours = Factor().weights(factor, POSITIVE, pairs)
    torch.testing.assert_close(ours.mean(1), torch.ones(4, 1))
    torch.testing.assert_close(ours[..., 0], factor / factor.mean(1, keepdim=True))
    published = Factor(scale="none").weights(factor, POSITIVE, pairs)
    torch.testing.assert_close(published[..., 0], factor)


def test_mean_factors_are_the_weights_of_the_mean_factors(z):
    weighting = Factor(levels=4)
    grid = grid_tensors(weighting)[0].double()
    probability = torch.randn(9, 4, dtype=torch.float64).softmax(-1)
    found = weighting.mean_weights(probability, grid, NEGATIVE, pairs_of(z, LABEL))[0, :, 0]
    factor = (probability * torch.arange(1, 5) / 4).sum(-1)
    torch.testing.assert_close(found, factor / factor.mean())


def test_factors_are_the_levels():
    positive, negative = Factor(levels=4).grids
    assert positive == negative == (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_are_multipliers_of_mean_one(z, name):
    weighting = WEIGHTINGS[name]()
    pairs = pairs_of(z, LABEL)
    for sign, mask in enumerate((pairs.positive, pairs.negative)):
        value = grid_tensors(weighting)[sign].double()[torch.randint(8, (3, 9))]
        weights = weighting.weights(value, sign, pairs).expand(3, 9, 9)
        assert (weights >= 0).all()
        if name == "sharpness":
            mean = (weights * mask).sum(-1) / mask.sum(-1).clamp(min=1)
            torch.testing.assert_close(mean, mask.any(-1).double().expand(3, 9))
