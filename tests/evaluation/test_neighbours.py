import sys

import pytest
import torch

from evaluation.ranking import exact, neighbours
from evaluation.ranking.exact import exact_similarity
from evaluation.ranking.neighbours import nearest_neighbours
from tests.evaluation.sets import SETS, clusters
from tests.oracles.metrics import rankings
from utilities.device import full_precision
from utilities.errors import RunError, UsageError

BACKENDS = ["torch", pytest.param("faiss", marks=pytest.mark.skipif(neighbours.faiss_or_none() is None,
                                                                    reason="faiss is not installed"))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [1, 3, "all"])
def test_same_ranking_as_a_plain_sort(name, backend, k):
    rows, _ = SETS[name]()
    k = len(rows) - 1 if k == "all" else k
    expected = [order[:k] for order in rankings(rows.numpy())]
    score, index = nearest_neighbours(rows, rows, k, exclude_self=True, backend=backend)
    assert index.tolist() == expected
    torch.testing.assert_close(score, (rows @ rows.T).gather(1, index), atol=2e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("block", [1, 7, 1024])
@pytest.mark.parametrize("copies", [1, 2, 15])
def test_blocks_and_backends_agree_exactly(backend, block, copies):
    rows, _ = clusters(7, classes=10, per_class=4, width=33)
    rows = rows.repeat(copies, 1)[torch.randperm(40 * copies)]
    expected = _plain(rows, 12)
    assert torch.equal(nearest_neighbours(rows, rows, 12, exclude_self=True, backend=backend, block=block)[1], expected)


def _plain(rows, k):
    score = exact_similarity(rows, rows).fill_diagonal_(-torch.inf)
    return score.sort(dim=1, descending=True, stable=True).indices[:, :k]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("number", [40, 300])  # all of them are candidates; the cut goes through near ties
def test_near_ties_within_rounding_are_ordered_exactly(backend, number):
    g = torch.Generator().manual_seed(0)
    base = torch.nn.functional.normalize(torch.randn(1, 200, generator=g), dim=1)
    rows = base + 1e-7 * torch.randn(number, 200, generator=g)
    assert torch.equal(nearest_neighbours(rows, rows, 20, exclude_self=True, backend=backend)[1], _plain(rows, 20))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_rounding_can_do_grows_with_the_rows(backend):
    g = torch.Generator().manual_seed(1)
    rows = torch.randn(1, 200, generator=g) + 1e-7 * torch.randn(300, 200, generator=g)
    rows = rows * torch.linspace(0.01, 30, 300)[:, None]                           # short rows first
    for part in (rows, rows[60:] / rows[60:].norm(dim=1, keepdim=True) * 30):
        order = exact_similarity(rows, part).sort(dim=1, descending=True, stable=True).indices
        assert torch.equal(nearest_neighbours(rows, part, 20, backend=backend, block=50)[1], order[:, :20])


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("name", SETS)
def test_a_half_precision_search_finds_the_same(name, k):
    rows, _ = SETS[name]()
    for length in (1, 1e6, 1e-6):                                                  # float16 alone would overflow
        expected = _plain(length * rows, k)
        found = nearest_neighbours(length * rows, length * rows, k, exclude_self=True, precision="half", block=11)[1]
        assert torch.equal(found, expected)
    with pytest.raises(UsageError, match="choose --search_backend torch"):
        nearest_neighbours(rows, rows, k, backend="faiss", precision="half")
    with pytest.raises(UsageError, match="Choose one of: float32, half"):
        nearest_neighbours(rows, rows, k, precision="float16")


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_tables_change_nothing(backend, monkeypatch):
    rows, _ = SETS["ties"]()
    expected = nearest_neighbours(rows, rows, 9, exclude_self=True, backend=backend)[1]
    monkeypatch.setattr(exact, "CELLS", 130)
    monkeypatch.setattr(exact, "SCRATCH", 40)
    monkeypatch.setattr(neighbours, "MARGIN", 0)
    assert torch.equal(nearest_neighbours(rows, rows, 9, exclude_self=True, backend=backend)[1], expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_self_is_left_out_by_index_not_by_place(backend):
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    index = nearest_neighbours(rows, rows, 2, exclude_self=True, backend=backend)[1]
    assert index.tolist() == [[1, 2], [0, 2], [0, 1]]
    long = 2 * rows[[0, 1, 2, 0]] * torch.tensor([[1.0], [3.0], [1.0], [1.0]])  # row 1 is nearer to 0 than 0 itself
    assert nearest_neighbours(long, long, 1, exclude_self=True, backend=backend)[1][:, 0].tolist() == [1, 0, 0, 1]


def test_long_rows_are_no_infinities():
    neighbours.check_finite(torch.full((3, 4), 3e38), "test")                      # although their sum is one
    for bad in (torch.nan, torch.inf, -torch.inf):
        rows = torch.ones(3, 4)
        rows[1, 2] = bad
        with pytest.raises(RunError, match="1 of 3 test embeddings hold NaN or infinity .the first is row 1"):
            neighbours.check_finite(rows, "test")
        rows[2, 0] = -bad
        with pytest.raises(RunError, match="2 of 3 test embeddings hold NaN or infinity .the first is row 1"):
            neighbours.check_finite(rows, "test")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_of_its_own(backend):
    gallery, _ = clusters(1)
    query, _ = clusters(2, per_class=2)
    score, index = nearest_neighbours(query, gallery, 5, backend=backend, block=4)
    assert torch.equal(index, exact_similarity(query, gallery).sort(dim=1, descending=True, stable=True).indices[:, :5])
    assert score.shape == (12, 5) and score.dtype == torch.float32 and index.dtype == torch.int64


def test_tf32_and_autocast_are_off_inside_and_restored():
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with full_precision(torch.device("cpu")):
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_refusals():
    rows, _ = clusters(0)
    with pytest.raises(UsageError, match="k = 42 asked for, but each query has 41 rows"):
        nearest_neighbours(rows, rows, 42, exclude_self=True)
    with pytest.raises(UsageError, match="k = 0"):
        nearest_neighbours(rows, rows, 0)
    with pytest.raises(UsageError, match="pass the same tensor twice"):
        nearest_neighbours(rows[:3], rows, 2, exclude_self=True)
    with pytest.raises(UsageError, match="no search backend of this name. Did you mean 'faiss'"):
        nearest_neighbours(rows, rows, 2, backend="fais")
    for value in (float("nan"), float("inf")):
        bad = rows.clone()
        bad[5, 2] = value
        with pytest.raises(RunError, match="1 of 42 gallery embeddings hold NaN or infinity .the first is row 5"):
            nearest_neighbours(rows, bad, 2)


def test_without_faiss(monkeypatch):
    rows, _ = clusters(0)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert torch.equal(nearest_neighbours(rows, rows, 4, exclude_self=True)[1], _plain(rows, 4))
    with pytest.raises(UsageError, match="faiss is not installed"):
        nearest_neighbours(rows, rows, 4, backend="faiss")


@pytest.mark.gpu
def test_gpu_ranks_as_the_cpu_does_with_tf32_allowed():
    rows, _ = clusters(3, classes=20, per_class=30, width=64)
    rows = rows.repeat(2, 1)
    expected = nearest_neighbours(rows, rows, 50, exclude_self=True, backend="torch")[1]
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        found = nearest_neighbours(rows.cuda(), rows.cuda(), 50, exclude_self=True)[1]
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert torch.equal(found.cpu(), expected)
