"""Context from the collection, against the formula written as loops."""
import math

import numpy as np
import pytest
import torch

from evaluation import evaluate
from evaluation.ranking import add_neighbours, exact, neighbours, with_context
from tests.evaluation.sets import SETS, clusters, generator
from utilities.errors import RunError, UsageError
from utilities.metric_names import is_better, is_share

METRICS = ["e_recall@1", "c_mAP_r", "nmi", "dists@intra"]
backends = pytest.mark.parametrize("backend", [
    "torch",
    pytest.param("faiss", marks=pytest.mark.skipif(neighbours.faiss_or_none() is None,
                                                   reason="no faiss")),
])


def unit_row(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row] if length else list(row)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def row_with_context(row, others, k, power):
    """The formula for one unit row and the unit rows that it may take, in their order."""
    # as the ranking: float32, ties by the lower index
    near = sorted(others, key=lambda other: -float(np.float32(cosine(row, other))))[:k]
    weights = []
    for other in near:
        similarity = cosine(row, other)
        weights.append(similarity ** power if similarity > 0 else 0.0)
    total = sum(weights)
    mixed = list(row)
    for weight, other in zip(weights, near):
        for d, x in enumerate(other):
            mixed[d] += weight / total * x if total else 0
    return unit_row(mixed)


def expected(rows, k, power, gallery=None):
    """All rows with the context of the gallery, or of each other."""
    rows = [unit_row(row) for row in rows.double().tolist()]
    if gallery is not None:
        others = [unit_row(row) for row in gallery.double().tolist()]
        return torch.tensor([row_with_context(row, others, k, power) for row in rows])
    result = []
    for i, row in enumerate(rows):
        result.append(row_with_context(row, rows[:i] + rows[i + 1:], k, power))
    return torch.tensor(result)


def close(found, wanted):
    torch.testing.assert_close(found.double(), wanted.double(), rtol=0, atol=2e-7)


@backends
@pytest.mark.parametrize("power", [0, 1, 3, 7.5])
@pytest.mark.parametrize("k", [1, 3, "all"])
@pytest.mark.parametrize("name", SETS)
def test_rows_of_a_collection_are_those_of_the_formula(name, k, power, backend):
    rows, _ = SETS[name]()
    k = len(rows) - 1 if k == "all" else k
    found, gallery = with_context(rows, None, k, power, backend=backend)
    assert gallery is None
    assert found.dtype == rows.dtype
    close(found, expected(rows, k, power))


@pytest.mark.parametrize("block, cells", [(1, 2**22), (5, 40), (1024, 1)])
def test_blocks_change_nothing(monkeypatch, block, cells):
    rows, _ = SETS["duplicates"]()
    wanted, _ = with_context(rows, None, 5, 3.0)
    monkeypatch.setattr(exact, "CELLS", cells)
    found, _ = with_context(rows, None, 5, 3.0, block=block)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7)


def test_with_a_gallery_every_row_takes_rows_of_the_gallery_alone():
    rows, _ = clusters(0)
    query = rows[::2]
    gallery = rows[1::2]
    found, augmented = with_context(query, gallery, 4, 3.0)
    close(found, expected(query, 4, 3.0, gallery))
    close(augmented, expected(gallery, 4, 3.0))
    # no query plays a part in another one's row, nor in the gallery's
    alone, again = with_context(query[3:4], gallery, 4, 3.0)
    close(alone[0], found[3])
    assert torch.equal(again, augmented)
    # a query that is also in the gallery finds itself, unless its place there is named
    inside = gallery[:2].clone()
    close(add_neighbours(inside, gallery, 4, 3.0), expected(inside, 4, 3.0, gallery))
    own = torch.tensor([0, -1])
    left_out = add_neighbours(inside, gallery, 4, 3.0, itself=own)
    close(left_out[0], augmented[0])
    close(left_out[1], expected(inside, 4, 3.0, gallery)[1])


def test_the_order_and_the_length_of_rows_play_no_part():
    rows, _ = clusters(2, classes=9)
    rows = rows.double()
    wanted, _ = with_context(rows, None, 6, 3.0)
    order = torch.randperm(len(rows), generator=generator(1))
    permuted, _ = with_context(rows[order], None, 6, 3.0)
    torch.testing.assert_close(permuted, wanted[order])
    length = torch.rand(len(rows), 1, generator=generator(2), dtype=torch.float64) + 0.1
    for scale in (1, 1e-30, 1e30):
        longer, _ = with_context(scale * length * rows, None, 6, 3.0)
        torch.testing.assert_close(longer, wanted)


def test_rows_without_a_similar_neighbour_stay():
    rows = torch.tensor([[0.0, 0], [2, 0], [0, 3], [-1, 0], [0, 0]])
    found, _ = with_context(rows, None, 4, 3.0)
    assert found.tolist() == [[0, 0], [1, 0], [0, 1], [-1, 0], [0, 0]]


def test_small_similarities_to_a_large_power_are_weights_all_the_same():
    rows = torch.eye(4, dtype=torch.float64)
    rows[1:3, 0] = 1e-4
    found, _ = with_context(rows[:3], None, 2, 100)
    # 1e-400 twice: each half
    mean = (rows[1] + rows[2]) / 2
    torch.testing.assert_close(found[0], torch.nn.functional.normalize(rows[0] + mean, dim=0))


def test_rows_close_together_keep_their_digits():
    rows = torch.ones(30, 6, dtype=torch.float64)
    rows += 1e-9 * torch.randn(30, 6, generator=generator(0), dtype=torch.float64)
    found, _ = with_context(rows, None, 29, 3.0)
    unit_rows = torch.nn.functional.normalize(rows, dim=1)
    mean = (unit_rows.sum(0) - unit_rows) / 29
    wanted = torch.nn.functional.normalize(unit_rows + mean, dim=1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("k, power, words", [
    (6, 3, "6: the collection has 6 images; pass at most 5"), (-1, 3, "--eval_context: -1 is not"),
    (2.5, 3, "--eval_context: 2.5 is not"),
    (2, -0.5, "power: -0.5 is not a number of at least 0"), (2, math.nan, "power: nan"),
])
def test_what_is_out_of_range_is_refused(k, power, words):
    rows, label = clusters(0, classes=2, per_class=3)
    with pytest.raises(UsageError, match=words):
        evaluate(rows, label, ["e_recall@1"], context=k, context_power=power)


def test_rows_that_are_no_numbers_are_refused():
    with pytest.raises(RunError, match="NaN"):
        with_context(torch.full((3, 2), torch.nan), None, 1, 3.0)


@pytest.mark.parametrize("apart", [False, True])
def test_metrics_with_context_stand_beside_the_plain_ones(apart):
    rows, label = clusters(3)
    arguments = {"bootstrap": 20}
    collection = None
    if apart:
        collection = rows[20:]
        arguments |= {"gallery": collection, "gallery_labels": label[20:]}
        rows = rows[:20]
        label = label[:20]
    plain = evaluate(rows, label, METRICS, **arguments)
    both = evaluate(rows, label, METRICS, context=3, context_power=2.0, **arguments)
    if apart:
        arguments["gallery"] = expected(collection, 3, 2.0).float()
    again = evaluate(expected(rows, 3, 2.0, collection).float(), label, METRICS, **arguments)
    assert list(both) == [*plain, *(f"ctx_{name}" for name in plain)]
    assert {name: both[name] for name in plain} == plain
    context = {name: both[f"ctx_{name}"] for name in plain}
    assert context == pytest.approx(again, abs=1e-6)
    assert context != plain


def test_a_name_with_context_has_unit_and_direction_of_the_plain_one():
    assert is_share("val_ctx_e_recall@1")
    assert not is_share("ctx_dists@intra")
    assert is_better("ctx_dists@intra", 0.1, 0.2)
    assert is_better("val_ctx_fnmr@0.1", 0.1, 0.2)
    assert is_better("ctx_mAP_r", 0.2, 0.1)
    with pytest.raises(UsageError, match="--eval_context K"):
        evaluate(*clusters(0), ["ctx_e_recall@1"])


@pytest.mark.parametrize("kind", [torch.int16, torch.int64, torch.float16])
def test_rows_of_another_type_get_the_context_of_the_same_numbers(kind):
    rows = (clusters(40)[0] * 20).round()
    expected = with_context(rows, None, 3, 3.0)[0]
    found, _ = with_context(rows.to(kind), None, np.int64(3), 3.0)
    assert torch.equal(found, expected)
