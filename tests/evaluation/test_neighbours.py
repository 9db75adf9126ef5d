import sys

import pytest
import torch
from torch.nn.functional import normalize

from evaluation.ranking import check_finite, exact, nearest, neighbours, searched
from tests.evaluation.sets import SETS, clusters, exact_similarity, generator
from tests.oracles.metrics import rankings
from utilities.device import full_precision
from utilities.errors import RunError, UsageError

without_faiss = pytest.mark.skipif(neighbours.faiss_or_none() is None, reason="no faiss")
backends = pytest.mark.parametrize("backend", ["torch", pytest.param("faiss", marks=without_faiss)])


def sorted_rows(query, gallery, k):
    order = exact_similarity(query, gallery).sort(dim=1, descending=True, stable=True).indices
    return order[:, :k]


def sorted_others(rows, k):
    score = exact_similarity(rows, rows).fill_diagonal_(-torch.inf)
    return score.sort(dim=1, descending=True, stable=True).indices[:, :k]


def nearest_others(rows, k, **options):
    return nearest(rows, rows, k, exclude_self=True, **options)[1]


@backends
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [1, 3, "all"])
def test_same_ranking_as_a_plain_sort(name, backend, k):
    rows, _ = SETS[name]()
    if k == "all":
        k = len(rows) - 1
    expected = [order[:k] for order in rankings(rows.numpy())]
    score, index = nearest(rows, rows, k, exclude_self=True, backend=backend)
    assert index.tolist() == expected
    exact_score = (rows @ rows.T).gather(1, index)
    torch.testing.assert_close(score, exact_score, atol=2e-6, rtol=0)


@backends
@pytest.mark.parametrize("block", [1, 7, 1024])
@pytest.mark.parametrize("copies", [1, 2, 15])
def test_blocks_and_backends_agree_exactly(backend, block, copies):
    rows, _ = clusters(7, classes=10, per_class=4, width=33)
    rows = rows.repeat(copies, 1)[torch.randperm(40 * copies)]
    found = nearest_others(rows, 12, backend=backend, block=block)
    assert torch.equal(found, sorted_others(rows, 12))


@backends
@pytest.mark.parametrize("number", [40, 300])
def test_near_ties_within_rounding_are_ordered_exactly(backend, number):
    """Of 40 rows all are candidates; of 300 the cut goes through near ties."""
    g = generator(0)
    base = normalize(torch.randn(1, 200, generator=g), dim=1)
    rows = base + 1e-7 * torch.randn(number, 200, generator=g)
    assert torch.equal(nearest_others(rows, 20, backend=backend), sorted_others(rows, 20))


@backends
def test_what_rounding_can_do_grows_with_the_rows(backend):
    g = generator(1)
    rows = torch.randn(1, 200, generator=g) + 1e-7 * torch.randn(300, 200, generator=g)
    # short rows first
    rows = rows * torch.linspace(0.01, 30, 300)[:, None]
    for gallery in (rows, 30 * normalize(rows[60:], dim=1)):
        found = nearest(rows, gallery, 20, backend=backend, block=50)[1]
        assert torch.equal(found, sorted_rows(rows, gallery, 20))


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("name", SETS)
def test_a_half_precision_search_finds_the_same(name, k):
    rows, _ = SETS[name]()
    # float16 alone would overflow
    for length in (1, 1e6, 1e-6):
        found = nearest_others(length * rows, k, precision="half", block=11)
        assert torch.equal(found, sorted_others(length * rows, k))


@backends
def test_small_tables_change_nothing(backend, monkeypatch):
    rows, _ = SETS["ties"]()
    expected = nearest_others(rows, 9, backend=backend)
    monkeypatch.setattr(exact, "CELLS", 130)
    monkeypatch.setattr(exact, "SCRATCH", 40)
    monkeypatch.setattr(neighbours, "MARGIN", 0)
    assert torch.equal(nearest_others(rows, 9, backend=backend), expected)


@backends
def test_self_is_left_out_by_index_not_by_place(backend):
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = nearest_others(rows, 2, backend=backend)
    assert found.tolist() == [[1, 2], [0, 2], [0, 1]]
    # row 1 is nearer to row 0 than row 0 itself
    rows = torch.tensor([[2.0, 0.0], [6.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    found = nearest_others(rows, 1, backend=backend)
    assert found[:, 0].tolist() == [1, 0, 0, 1]


@backends
@pytest.mark.parametrize("noise", [1, 0.02, 1e-5])
def test_the_similarity_of_rows_searched_by_cosine_is_their_cosine(backend, noise):
    """Also where rows are so close together that a centre is subtracted first."""
    rows = 3 + noise * torch.randn(50, 16, generator=generator(0), dtype=torch.float64)
    for gallery in (None, rows[20:]):
        found = nearest(*searched(rows, gallery, cosine=True), 7, backend=backend)
        others = normalize(rows if gallery is None else gallery, dim=1)
        cosine = normalize(rows, dim=1) @ others.T
        wanted = cosine.sort(dim=1, descending=True).values[:, :7]
        torch.testing.assert_close(found[0], wanted.float(), rtol=0, atol=2e-6)


def test_long_rows_are_no_infinities():
    # although their sum is one
    check_finite(torch.full((3, 4), 3e38), "test")
    for bad in (torch.nan, torch.inf, -torch.inf):
        rows = torch.ones(3, 4)
        rows[1, 2] = bad
        first = "test embeddings hold NaN or infinity .the first is row 1"
        with pytest.raises(RunError, match=f"1 of 3 {first}"):
            check_finite(rows, "test")
        rows[2, 0] = -bad
        with pytest.raises(RunError, match=f"2 of 3 {first}"):
            check_finite(rows, "test")


@backends
def test_another_gallery(backend):
    gallery, _ = clusters(1)
    query, _ = clusters(2, per_class=2)
    score, index = nearest(query, gallery, 5, backend=backend, block=4)
    assert torch.equal(index, sorted_rows(query, gallery, 5))
    assert score.shape == (12, 5)
    assert score.dtype == torch.float32
    assert index.dtype == torch.int64


@pytest.fixture
def tf32_allowed():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    yield matmul
    matmul.fp32_precision = before


def test_tf32_and_autocast_are_off_inside_and_restored(tf32_allowed):
    ones = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision(torch.device("cpu")):
            assert tf32_allowed.fp32_precision == "ieee"
            assert (ones @ ones).dtype == torch.float32
        assert (ones @ ones).dtype == torch.bfloat16
    assert tf32_allowed.fp32_precision == "tf32"


@pytest.mark.parametrize(("k", "options", "words"), [
    (42, {"exclude_self": True}, "k = 42 asked for, but each query has 41 rows"),
    (0, {}, "k = 0"),
    (2, {"backend": "fais"}, "no search backend of this name. Did you mean faiss"),
    (2, {"backend": "faiss", "precision": "half"}, "choose --search_backend torch"),
    (2, {"precision": "float16"}, "Choose one of: float32, half"),
])
def test_refusals(k, options, words):
    if options.get("backend") == "faiss":
        pytest.importorskip("faiss")
    rows, _ = clusters(0)
    with pytest.raises(UsageError, match=words):
        nearest(rows, rows, k, **options)


def test_refused_rows():
    rows, _ = clusters(0)
    with pytest.raises(UsageError, match="pass the same tensor twice"):
        nearest(rows[:3], rows, 2, exclude_self=True)
    for value in (torch.nan, torch.inf):
        bad = rows.clone()
        bad[5, 2] = value
        words = "1 of 42 gallery embeddings hold NaN or infinity .the first is row 5"
        with pytest.raises(RunError, match=words):
            nearest(rows, bad, 2)


def test_without_faiss(monkeypatch):
    rows, _ = clusters(0)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert torch.equal(nearest_others(rows, 4), sorted_others(rows, 4))
    with pytest.raises(UsageError, match="faiss is not installed"):
        nearest(rows, rows, 4, backend="faiss")


@pytest.mark.gpu
def test_gpu_ranks_as_the_cpu_does_with_tf32_allowed(tf32_allowed):
    rows, _ = clusters(3, classes=20, per_class=30, width=64)
    rows = rows.repeat(2, 1)
    found = nearest_others(rows.cuda(), 50).cpu()
    assert torch.equal(found, nearest_others(rows, 50, backend="torch"))
