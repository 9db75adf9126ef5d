"""The shared definitions against naive loops, and their behaviour at the edges."""
import math

import pytest
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


def test_masked_logsumexp_with_empty_rows():
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    total = pairwise.masked_logsumexp(x, mask)
    torch.testing.assert_close(total[0], (x[0, 0].exp() + x[0, 2].exp()).log())
    torch.nn.functional.softplus(total).sum().backward()
    assert (
        torch.equal(x.grad[1], torch.zeros(3, dtype=torch.float64)) and torch.isfinite(x.grad).all()
    )


@pytest.mark.parametrize("few", [0, 100])
@pytest.mark.parametrize("label", [LABEL, torch.zeros(6), torch.arange(6)])
def test_average_precision_equals_the_loop_with_ties_and_leading_axes(monkeypatch, few, label):
    monkeypatch.setattr(pairwise, "FEW", few)
    # many ties
    x = torch.randint(-1, 2, (4, 6, 3)).double()
    s = pairwise.similarity(x)
    found = pairwise.average_precision(s, pairwise.positive_mask(label))
    for k in range(4):
        for i in range(6):
            assert (
                abs(found[k, i].item() - naive_average_precision(s[k].tolist(), label.tolist(), i))
                < 1e-12
            )


ROWS = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3.0, 4.0], [-1.0, 2.0]])


@pytest.mark.parametrize("dtype,expected", [
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
])
def test_half_precision_alone_is_widened(dtype, expected):
    x = torch.ones(2, dtype=dtype)
    wide = pairwise.at_least_float32(x)
    assert wide.dtype == expected
    assert (wide is x) == (dtype == expected)


def test_unit_rows_keep_their_direction_and_a_zero_row_stays_zero():
    x = ROWS.clone().requires_grad_()
    unit = pairwise.unit(x)
    expected = torch.tensor([[0.6, 0.8], [0, 0], [0.6, 0.8], [-(0.2**0.5), 0.8**0.5]])
    torch.testing.assert_close(unit, expected)
    unit.sum().backward()
    assert x.grad.isfinite().all()


def test_distances_of_listed_rows():
    # 3-4-5 to the origin; 4 and 2, and 1 and 2, to the last
    square = torch.tensor([[0.0, 25, 0, 20], [25, 0, 25, 5], [0, 25, 0, 20], [20, 5, 20, 0]])
    assert torch.equal(pairwise.squared_distance(ROWS), square)
    assert torch.equal(pairwise.squared_distance(ROWS, 1), square[:1])
    torch.testing.assert_close(pairwise.distance(ROWS), square.sqrt())
    i = torch.tensor([0, 0, 3, 1])
    j = torch.tensor([2, 1, 1, 1])
    assert pairwise.squared_distance_between(ROWS, i, j).tolist() == [0, 25, 5, 0]
    assert pairwise.distance_between(ROWS, i[:0], j[:0]).shape == (0,)


@pytest.mark.parametrize("number", [0, 1])
def test_no_row_or_one_has_no_pairs(number):
    x = torch.randn(number, 3)
    label = torch.zeros(number)
    assert pairwise.distance(x).shape == (number, number)
    assert not pairwise.distance(x).any()
    for mask in pairwise.pair_masks(label):
        assert mask.shape == (number, number) and not mask.any()
    found = pairwise.average_precision(pairwise.similarity(x), pairwise.positive_mask(label))
    assert found.tolist() == [0.0] * number


def test_rounding_makes_no_distance_negative():
    # far from the origin the square of a small difference is lost
    x = 1000 + 1e-3 * torch.randn(64, 8)
    square = pairwise.squared_distance(x)
    assert (square >= 0).all()
    product = x @ x.t()
    norm = x.square().sum(-1)
    assert (norm[:, None] + norm - 2 * product).min() < 0
    assert pairwise.distance(x).isfinite().all()


@pytest.mark.parametrize("anchors", [None, 1, 2, 4])
def test_leading_axes_and_vmap_give_what_a_loop_gives(anchors):
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    loop = torch.stack([torch.cdist(one[:anchors], one) for one in x])
    close = {"rtol": 1e-9, "atol": 1e-7}
    torch.testing.assert_close(pairwise.distance(x, anchors), loop, **close)
    mapped = torch.func.vmap(lambda one: pairwise.distance(one, anchors))(x)
    torch.testing.assert_close(mapped, loop, **close)


def test_similarities_with_other_rows_are_dot_products():
    other = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    assert pairwise.similarity(ROWS, other).tolist() == [[3, 10], [0, 0], [3, 10], [-1, 0]]
    assert torch.equal(pairwise.similarity(ROWS), pairwise.similarity(ROWS, ROWS))


@pytest.mark.parametrize("square,root,slope", [
    (0.0, 0.0, 0.0),
    (4.0, 2.0, 0.25),
    (1e-30, 1e-15, 5e14),
    (float("inf"), float("inf"), 0.0),
])
def test_the_root_has_a_slope_of_zero_at_zero(square, root, slope):
    x = torch.tensor(square, dtype=torch.float64, requires_grad=True)
    found = pairwise.root(x)
    found.backward()
    torch.testing.assert_close(found.item(), root)
    torch.testing.assert_close(x.grad.item(), slope)


def test_no_distance_hides_a_row_that_is_not_finite():
    x = ROWS.clone()
    x[1, 0] = torch.nan
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1] = True
    expected[:, 1] = True
    expected[1, 1] = False
    assert torch.equal(pairwise.distance(x).isnan(), expected)
    ends = torch.tensor([0, 0]), torch.tensor([1, 2])
    assert pairwise.distance_between(x, *ends).isnan().tolist() == [True, False]
    assert pairwise.unit(x).isnan().any(-1).tolist() == [False, True, False, False]


def test_the_gradient_of_distances_is_that_of_finite_differences():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    i = torch.tensor([0, 1, 3])
    j = torch.tensor([1, 2, 0])
    assert torch.autograd.gradcheck(pairwise.distance, (x,))
    assert torch.autograd.gradcheck(lambda rows: pairwise.distance_between(rows, i, j), (x,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_empty_sum_is_a_finite_number_whose_softplus_is_zero_in_every_type(dtype):
    x = torch.tensor([[5.0, 6.0]], dtype=dtype, requires_grad=True)
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    empty = pairwise.masked_logsumexp(x, nothing)
    assert empty.isfinite() and empty < -1e4
    assert (empty + empty).isfinite()
    loss = torch.nn.functional.softplus(empty.float()).sum()
    loss.backward()
    assert loss == 0
    assert x.grad.tolist() == [[0, 0]]


def test_sums_along_another_axis_and_of_large_numbers():
    x = torch.tensor([[1000.0, 1.0], [1000.0, 2.0]])
    mask = torch.tensor([[True, False], [True, True]])
    expected = torch.tensor([1000 + math.log(2), 2.0])
    torch.testing.assert_close(pairwise.masked_logsumexp(x, mask, dim=0), expected)


def test_masks_take_labels_of_any_kind_by_position():
    label = torch.tensor([7, 7, -2, 7])
    same = [[0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]
    assert pairwise.positive_mask(label).int().tolist() == same
    assert torch.equal(pairwise.positive_mask(label.double()), pairwise.positive_mask(label))
    positive, negative = pairwise.pair_masks(label, 2)
    covered = positive.int() + negative.int() + pairwise.identity(label, 2).int()
    assert torch.equal(covered, torch.ones(2, 4, dtype=torch.int32))


@pytest.mark.parametrize("row,precision", [
    # positives of row 0 are 1 and 2; the numbers are its similarities to 1, 2, 3, 4
    ([0.9, 0.8, 0.1, 0.0], 1),
    ([0.1, 0.0, 0.9, 0.8], (1 / 3 + 2 / 4) / 2),
    ([0.9, 0.1, 0.5, 0.0], (1 + 2 / 3) / 2),
    ([0.5, 0.5, 0.5, 0.5], 1),
    ([0.0, 0.0, 0.5, 0.0], (1 / 2 + 2 / 3) / 2),
])
def test_average_precision_of_listed_rows(row, precision):
    similarity = torch.full((5, 5), 9.0, dtype=torch.float64)
    similarity[0, 1:] = torch.tensor(row, dtype=torch.float64)
    positive = pairwise.positive_mask(torch.tensor([0, 0, 0, 1, 2]))
    found = pairwise.average_precision(similarity, positive)
    assert abs(found[0].item() - precision) < 1e-12
    # of a class of one there is nothing to find
    assert found[3:].tolist() == [0, 0]
