"""Metrics of rows of any scale, offset and spread, against a sort of exact distances."""
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation import evaluate
from evaluation.metrics.kmeans import kmeans
from evaluation.ranking import nearest, searched

LABEL = np.repeat(np.arange(20), 6)
UNIT = 4e-15  # error of a distance between unit rows of float64


def data(seed):
    g = np.random.default_rng(seed)
    centre = g.normal(size=(20, 10))
    return centre[LABEL] + g.normal(size=(len(LABEL), 10))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def one_row(factor):
    def change(rows):
        changed = rows.copy()
        changed[7] *= factor
        return changed
    return change


ROW = np.arange(1.0, 11.0)
CHANGES = {
    "as they are": lambda rows: rows,
    "offset 30": lambda rows: rows + 30,
    "offset 1e4": lambda rows: rows + 1e4,
    "offset 1e5": lambda rows: rows + 1e5,
    "offset 1e6": lambda rows: rows + 1e6,
    "offset 1e8": lambda rows: rows + 1e8,
    "one large coordinate": lambda rows: rows + 1e6 * (ROW == 3),
    "two far groups": lambda rows: rows + 1e5 * ROW * (LABEL % 2)[:, None],
    "large": lambda rows: rows * 5e18,
    "larger": lambda rows: rows * 1e37,
    "small": lambda rows: rows * 1e-25,
    "giant row": one_row(1e8),
    "giant row, offset": lambda rows: one_row(1e6)(rows + 1e3),
    "small rows": lambda rows: rows * np.where(LABEL % 2, 1, 1e-9)[:, None],
    "unit rows": unit,
    "cap": lambda rows: unit(100 * ROW + rows),
    "tiny cap": lambda rows: unit(1e4 * ROW + rows),
    "duplicates": lambda rows: rows[np.arange(len(rows)) // 2 * 2],
}


def distances(rows, cosine):
    """Squared distances in the longest floating-point type, infinite on the diagonal."""
    exact = rows.astype(np.longdouble)
    if cosine:
        exact = unit(exact / np.abs(exact).max(1, keepdims=True))
    square = ((exact[:, None] - exact) ** 2).sum(2)
    np.fill_diagonal(square, np.inf)
    return square


def by_sorting(rows, cosine, later=0):
    """R@1 and mAP; with later 1 and -1 the least and the largest that the resolution allows."""
    same = LABEL[:, None] == LABEL
    square = distances(rows, cosine) + later * np.where(same, 1, -1) * resolution(rows, cosine)
    order = square.argsort(axis=1, kind="stable")[:, :-1]
    hit = LABEL[order] == LABEL[:, None]
    precision = hit.cumsum(1) / np.arange(1, hit.shape[1] + 1)
    average = (precision * hit).sum(1) / hit.sum(1)
    return [hit[:, 0].mean(), average.mean()]


def resolution(rows, cosine):
    """How exact a squared distance is: products are rounded to float32 (docs/metrics.md), near pairs
    have that of their difference, and unit rows errors of float64 themselves."""
    square = distances(rows, cosine)
    np.fill_diagonal(square, 0)
    length = np.ones(len(rows)) if cosine else np.linalg.norm(rows.astype(np.longdouble), axis=1)
    both = length[:, None] * length
    rounded = np.where(square > both / 512, both * 2.0**-23, square * 2.0**-46)
    return rounded + np.sqrt(square) * UNIT if cosine else rounded


def found(rows, cosine, **options):
    names = ["c_recall@1", "c_mAP"] if cosine else ["e_recall@1", "mAP"]
    return list(evaluate(torch.from_numpy(rows), torch.from_numpy(LABEL), names, **options).values())


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_ranking_is_that_of_exact_distances(change, dtype, cosine):
    rows = CHANGES[change](data(0)).astype(dtype)
    expected = by_sorting(rows, cosine)
    assert found(rows, cosine) == pytest.approx(expected, abs=1e-9)
    half = found(rows, cosine, precision="half", backend="torch", block=50)
    assert half == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@example(seed=0, offset=4.0, scale=0.0, names=["small rows"], cosine=True)
@example(seed=0, offset=6.0, scale=0.0, names=["small rows"], cosine=True)
@given(seed=st.integers(0, 10**6), offset=st.floats(-8, 8), scale=st.floats(-25, 18),
       names=st.lists(st.sampled_from(sorted(CHANGES)), max_size=1), cosine=st.booleans())
def test_changes_one_after_the_other(seed, offset, scale, names, cosine):
    rows = data(seed)
    for name in names:
        rows = CHANGES[name](rows)
    rows = rows * 10.0**scale + np.sign(offset) * 10.0 ** (abs(offset) + scale)
    least, most = (by_sorting(rows, cosine, later) for later in (1, -1))
    for low, value, high in zip(least, found(rows, cosine), most, strict=True):
        assert low - 1e-9 <= value <= high + 1e-9


@pytest.mark.parametrize("change", CHANGES)
def test_cosine_metrics_do_not_depend_on_the_order_of_dimensions(change):
    rows = CHANGES[change](data(1)).astype("f4")
    names = ["c_recall@1", "c_mAP", "c_mAP_r"]
    if change not in ("two far groups", "offset 1e8"):
        names.append("c_nmi")
    values = []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(rows.shape[1])
        mixed = np.ascontiguousarray(rows[:, order])
        values.append(evaluate(torch.from_numpy(mixed), torch.from_numpy(LABEL), names))
    assert all(value == values[0] for value in values)


@pytest.mark.parametrize("change", ["offset 1e4", "tiny cap", "two far groups", "large"])
def test_a_gallery_and_lists_of_neighbours_are_exact_too(change):
    rows = CHANGES[change](data(2))
    query, gallery = rows[::2], rows[1::2]
    table = ((query[:, None] - gallery) ** 2).sum(2)
    nearest_label = LABEL[1::2][table.argmin(1)]
    values = evaluate(torch.from_numpy(query), torch.from_numpy(LABEL[::2]), ["e_recall@1"],
                      gallery=torch.from_numpy(gallery),
                      gallery_labels=torch.from_numpy(LABEL[1::2]))
    assert values["e_recall@1"] == pytest.approx((nearest_label == LABEL[::2]).mean(), abs=1e-9)
    sides = searched(torch.from_numpy(query), torch.from_numpy(gallery), cosine=False)
    _, index = nearest(*sides, 5)
    assert np.array_equal(index.numpy(), table.argsort(axis=1, kind="stable")[:, :5])


@pytest.mark.parametrize("change", ["offset 1e6", "large", "small", "cap"])
@pytest.mark.parametrize("name", ["nmi", "f1", "fnmr@0.1"])
def test_metrics_of_the_set_see_through_offset_and_scale(change, name):
    rows = CHANGES[change](data(3))
    simple = data(3)
    if change == "cap":
        # the same rows, moved into the middle of their cap and enlarged
        simple = (rows - rows.mean(0)) * 1e3
    label = torch.from_numpy(LABEL)
    value = evaluate(torch.from_numpy(rows), label, [name])
    assert value == pytest.approx(evaluate(torch.from_numpy(simple), label, [name]), abs=1e-9)


@pytest.mark.parametrize("scale", [5e18, 1e-25, 1e-40])
def test_class_distances_and_spectrum_do_not_depend_on_the_scale(scale):
    rows = torch.from_numpy(data(4))
    names = ["dists@intra", "dists@inter", "rho_spectrum@1"]
    label = torch.from_numpy(LABEL)
    expected = evaluate(rows, label, names)
    assert evaluate(rows * scale, label, names) == pytest.approx(expected, rel=1e-9)


def test_clusters_of_far_groups_are_those_of_float64():
    rows = torch.from_numpy(CHANGES["offset 1e6"](data(5)))
    centred = rows - rows.mean(0)
    assert torch.equal(kmeans(centred, 20), kmeans(centred.float(), 20))
