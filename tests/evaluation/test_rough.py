"""The bound of products in bfloat16 on rows that round badly, and products of single pairs."""
import pytest
import torch

from evaluation.exact import slack
from evaluation.rough import blur, products, rough, rounded
from tests.evaluation.sets import clusters

BETWEEN = 1 + 2.0**-8     # half way between two numbers of bfloat16, where rounding loses most


def rows_that_round_badly():
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(60, 64, generator=g)
    return {"unit": torch.nn.functional.normalize(drawn, dim=1), "long": drawn * 1e12, "short": drawn * 1e-15,
            "almost nothing": drawn * 1e-22, "any length": drawn * torch.logspace(-3, 3, 60)[:, None],
            "half way": drawn.sign() * BETWEEN, "all alike": torch.full((60, 64), 0.0123),
            "one number each": torch.eye(64)[:60] * BETWEEN, "zeros": drawn * (torch.arange(60)[:, None] % 2)}


@pytest.mark.parametrize("name", rows_that_round_badly())
def test_products_stay_within_the_bound(name):
    rows = rows_that_round_badly()[name]
    query, gallery = rows[:30], rows[30:]
    a, b = rough(query), rough(gallery)
    stray = blur(a, b, slack(query, gallery))[:, None].double()
    product, exact = (a.rows @ b.rows.T).float(), query.double() @ gallery.double().T
    assert (rounded((exact - stray).float()) <= product).all() and (product <= rounded((exact + stray).float())).all()
    largest = query.norm(dim=1)[:, None] * gallery.norm(dim=1).max()
    assert (stray <= 2**-7 * largest + 1e-34 * (1 + largest)).all()                # no idle bound


def test_products_of_pairs(monkeypatch):
    rows, _ = clusters(0)
    monkeypatch.setattr("evaluation.rough.SCRATCH", 3 * rows.shape[1])
    i, j = torch.randint(0, len(rows), (2, 20), generator=torch.Generator().manual_seed(0))
    expected = (rows.double() @ rows.double().T)[i, j]
    assert torch.allclose(products(rows, rows, i, j).double(), expected, atol=1e-6)
    assert products(rows, rows, i[:0], j[:0]).shape == (0,)
