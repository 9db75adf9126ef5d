"""The bound of products in bfloat16, on rows that round badly."""
import pytest
import torch
from torch.nn.functional import normalize

from evaluation.ranking.exact import slack
from evaluation.ranking.rough import rough, rough_tolerance
from tests.evaluation.sets import generator

# half way between two numbers of bfloat16, where rounding loses most
BETWEEN = 1 + 2.0**-8
DRAWN = torch.randn(60, 64, generator=generator(0))
NUMBER = torch.arange(60)[:, None]
SETS = {
    "unit": normalize(DRAWN, dim=1),
    "long": DRAWN * 1e12,
    "short": DRAWN * 1e-15,
    "almost nothing": DRAWN * 1e-22,
    "any length": DRAWN * torch.logspace(-3, 3, 60)[:, None],
    "half way": DRAWN.sign() * BETWEEN,
    "all alike": torch.full((60, 64), 0.0123),
    "one number each": torch.eye(64)[NUMBER[:, 0] % 30] * BETWEEN,
    "zeros": DRAWN * (NUMBER % 2),
    "as they are": DRAWN.bfloat16().float(),
    "queries half way": torch.where(NUMBER < 30, BETWEEN, torch.ones(60, 64)),
    "gallery half way": torch.where(NUMBER < 30, torch.ones(60, 64), BETWEEN),
    "below what counts": DRAWN * torch.where(NUMBER < 30, 1e-39, 1e5),
}


@pytest.mark.parametrize("name", SETS)
def test_products_stay_within_the_bound(name):
    query, gallery = SETS[name].split(30)
    a = rough(query)
    b = rough(gallery)
    tolerance = rough_tolerance(a, b, slack(query, gallery))[:, None].double()
    exact = query.double() @ gallery.double().T
    # before the product is rounded
    error = a.rows.double() @ b.rows.double().T - exact
    assert (error.abs() <= tolerance).all()
    product = a.rows @ b.rows.T
    assert ((exact - tolerance).float().bfloat16() <= product).all()
    assert (product <= (exact + tolerance).float().bfloat16()).all()
    length = query.norm(dim=1)[:, None]
    longest = gallery.norm(dim=1).max()
    assert (tolerance <= 2**-7 * length * longest + 1e-36 * (1 + longest + length)).all()
