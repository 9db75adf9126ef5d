"""The shared definitions against naive loops, and their behaviour at the edges."""
import torch

from tests.oracles.policy import naive_average_precision
from utilities import pairwise

LABEL = torch.tensor([0, 0, 1, 1, 1, 2])


def test_distances_equal_cdist_and_the_diagonal_is_zero():
    x = torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(pairwise.distance(x), torch.cdist(x, x), rtol=1e-9, atol=1e-9)
    assert torch.equal(pairwise.distance(x).diagonal(), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(
        pairwise.distance(x, 3), pairwise.distance(x)[:3], rtol=1e-9, atol=1e-9
    )
    i, j = torch.tensor([0, 3, 2]), torch.tensor([1, 3, 0])
    torch.testing.assert_close(
        pairwise.distance_between(x, i, j), torch.cdist(x, x)[i, j], rtol=1e-9, atol=1e-9
    )


def test_distance_between_equal_rows_has_a_finite_gradient():
    x = torch.ones(3, 4, requires_grad=True)
    pairwise.distance(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_masks():
    positive, negative = pairwise.positive_mask(LABEL), pairwise.negative_mask(LABEL)
    for i in range(6):
        for j in range(6):
            assert positive[i, j] == (i != j and LABEL[i] == LABEL[j])
            assert negative[i, j] == (LABEL[i] != LABEL[j])
    assert torch.equal(pairwise.positive_mask(LABEL, 2), positive[:2])
    assert torch.equal(pairwise.negative_mask(LABEL, 2), negative[:2])


def test_masked_logsumexp_and_softmax_with_empty_rows():
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    total = pairwise.masked_logsumexp(x, mask)
    torch.testing.assert_close(total[0], (x[0, 0].exp() + x[0, 2].exp()).log())
    loss = (
        torch.nn.functional.softplus(total).sum() + pairwise.masked_softmax(x, mask).square().sum()
    )
    loss.backward()
    assert (
        torch.equal(x.grad[1], torch.zeros(3, dtype=torch.float64)) and torch.isfinite(x.grad).all()
    )
    assert torch.equal(pairwise.masked_softmax(x, mask)[1], torch.zeros(3, dtype=torch.float64))


def test_average_precision_equals_the_loop_with_ties_and_leading_axes():
    # many ties
    x = torch.randint(-1, 2, (4, 6, 3)).double()
    s = pairwise.similarity(x)
    found = pairwise.average_precision(s, pairwise.positive_mask(LABEL))
    for k in range(4):
        for i in range(6):
            assert (
                abs(found[k, i].item() - naive_average_precision(s[k].tolist(), LABEL.tolist(), i))
                < 1e-12
            )
