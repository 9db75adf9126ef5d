"""The bound of products in bfloat16 on rows that round badly, and products of single pairs."""
import pytest
import torch

from evaluation.ranking.exact import slack
from evaluation.ranking.rough import blur, products, rough, rounded
from tests.evaluation.sets import clusters

BETWEEN = 1 + 2.0**-8     # half way between two numbers of bfloat16, where rounding loses most


def rows_that_round_badly():
    """Queries (30, 64) and gallery (30, 64)."""
    g = torch.Generator().manual_seed(0)
    drawn, ones = torch.randn(60, 64, generator=g), torch.ones(60, 64)
    sets = {"unit": torch.nn.functional.normalize(drawn, dim=1), "long": drawn * 1e12, "short": drawn * 1e-15,
            "almost nothing": drawn * 1e-22, "any length": drawn * torch.logspace(-3, 3, 60)[:, None],
            "half way": drawn.sign() * BETWEEN, "all alike": torch.full((60, 64), 0.0123),
            "one number each": torch.eye(64)[torch.arange(60) % 30] * BETWEEN,
            "zeros": drawn * (torch.arange(60)[:, None] % 2), "as they are": drawn.bfloat16().float()}
    pairs = {name: (rows[:30], rows[30:]) for name, rows in sets.items()}
    return pairs | {"queries half way": (BETWEEN * ones[:30], ones[30:]),
                    "gallery half way": (ones[:30], BETWEEN * ones[30:]),
                    "below what counts": (drawn[:30] * 1e-39, drawn[30:] * 1e5)}


@pytest.mark.parametrize("name", rows_that_round_badly())
def test_products_stay_within_the_bound(name):
    query, gallery = rows_that_round_badly()[name]
    a, b = rough(query), rough(gallery)
    stray = blur(a, b, slack(query, gallery))[:, None].double()
    product, exact = (a.rows @ b.rows.T).float(), query.double() @ gallery.double().T
    assert ((a.rows.double() @ b.rows.double().T - exact).abs() <= stray).all()    # before the product is rounded
    assert (rounded((exact - stray).float()) <= product).all() and (product <= rounded((exact + stray).float())).all()
    largest = query.norm(dim=1)[:, None] * gallery.norm(dim=1).max()
    assert (stray <= 2**-7 * largest + 1e-36 * (1 + gallery.norm(dim=1).max() + query.norm(dim=1)[:, None])).all()


def test_products_of_pairs(monkeypatch):
    rows, _ = clusters(0)
    monkeypatch.setattr("evaluation.ranking.rough.SCRATCH", 3 * rows.shape[1])
    i, j = torch.randint(0, len(rows), (2, 20), generator=torch.Generator().manual_seed(0))
    expected = (rows.double() @ rows.double().T)[i, j]
    assert torch.allclose(products(rows, rows, i, j).double(), expected, atol=1e-6)
    assert products(rows, rows, i[:0], j[:0]).shape == (0,)
