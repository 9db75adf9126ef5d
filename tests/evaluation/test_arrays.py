"""Metrics of numpy arrays, lists and names are those of the tensors with the same numbers."""
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation import evaluate, query_values
from utilities.errors import RunError, UsageError

METRICS = ["e_recall@1", "c_mAP_r", "nmi", "dists@intra", "fnmr@0.1"]
NAMES = np.array(["cat", "dog", "ant"])


@pytest.fixture
def data():
    rows = torch.randn(30, 5)
    return rows, torch.arange(30) % 3


def read_only(array):
    array.flags.writeable = False
    return array


FORMS = {
    "numpy": lambda x, y: (x.numpy(), y.numpy()),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
    "a tensor and a list": lambda x, y: (x, y.tolist()),
    "small numbers": lambda x, y: (x.numpy(), y.numpy().astype(np.uint8)),
    "names": lambda x, y: (x.numpy(), NAMES[y.numpy()]),
    "a list of names": lambda x, y: (x, NAMES[y.numpy()].tolist()),
    "read only": lambda x, y: (read_only(x.numpy().copy()), read_only(y.numpy().copy())),
    "tensors of other types": lambda x, y: (x, y.float()),
    "numbers of 64 bits without sign": lambda x, y: (x.numpy(), y.numpy().astype(np.uint64) + 2**63),
    "a list of large numbers": lambda x, y: (x, [2**63 - 1 + number for number in y.tolist()]),
    "numbers beyond 64 bits": lambda x, y: (x, [2**70 + number for number in y.tolist()]),
    "a sparse tensor": lambda x, y: (x.to_sparse(), y),
    "tensors without sign": lambda x, y: (x, y.to(torch.uint16)),
    "big endian": lambda x, y: (x.numpy().astype(">f4"), y.numpy().astype(">i8")),
    "strided": lambda x, y: (np.repeat(x.numpy(), 2, 1)[:, ::2], np.repeat(y.numpy(), 2)[::2]),
    "reversed": lambda x, y: (x.flip(0).numpy()[::-1], y.flip(0).numpy()[::-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_gives_the_numbers_of_tensors(data, form):
    rows, labels = FORMS[form](*data)
    exact = data[0].double() if form == "lists" else data[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate(rows, labels, METRICS) == evaluate(exact, data[1], METRICS)


def test_names_of_a_gallery_are_numbered_with_those_of_the_queries(data):
    rows, labels = data
    # the gallery lacks the first class in the alphabet: numbered by itself, all others would shift
    kept = labels != 2
    expected = evaluate(rows[:9], labels[:9], METRICS, gallery=rows[kept], gallery_labels=labels[kept])
    names = NAMES[labels.numpy()]
    found = evaluate(rows[:9].numpy(), list(names[:9]), METRICS, gallery=rows[kept].numpy(),
                     gallery_labels=names[kept.numpy()])
    assert {name: found[name] for name in METRICS} == pytest.approx(expected)


def test_values_of_queries_take_arrays_too(data):
    values, query = query_values(data[0].numpy(), NAMES[data[1].numpy()], ["mrr"])
    expected, _ = query_values(*data, ["mrr"])
    assert torch.equal(values["mrr"], expected["mrr"])
    assert query.all()


@pytest.mark.parametrize(("rows", "labels", "sentence"), [
    (np.array([["a", "b"]] * 4), [0, 0, 1, 1], "embeddings of type <U1 are no real numbers"),
    (np.zeros((4, 2), complex), [0, 0, 1, 1], "complex128"),
    (np.zeros((4, 2)), [0, 0, 1], "\\(4, 2\\) and labels of shape \\(3,\\) do not fit"),
    (np.zeros((4, 2)), [0.0, 0.0, np.nan, 1.0], "a label is missing"),
    (np.zeros((4, 2)), [None] * 4, "a label is missing"),
    (torch.zeros(4, 2), torch.tensor([0, 0, torch.nan, 1]), "a label is missing"),
    (torch.zeros(4, 2, dtype=torch.complex64), torch.tensor([0, 0, 1, 1]), "no real numbers"),
    (torch.zeros(4, 2) > 0, torch.tensor([0, 0, 1, 1]), "no real numbers"),
    (np.zeros((4, 2)), ["a", "a", np.nan, pd.NA], "a label is missing"),
    (np.zeros((4, 2)), ["a", "a", np.nan, np.nan], "a label is missing"),
    ([[1.0], [1.0, 2.0]], [0, 0], "embeddings are no array"),
    (np.zeros((4, 2)), [["a"], ["a"], ["b"], ["b"]], "labels of shape \\(4, 1\\)"),
])
def test_what_is_no_embedding_is_refused(rows, labels, sentence):
    with pytest.raises(UsageError, match=sentence):
        evaluate(rows, labels, METRICS)


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint64, np.longdouble])
def test_rows_of_any_type_are_the_same_numbers(kind):
    rows = np.random.default_rng(0).integers(0, 9, (30, 5))
    labels = np.arange(30) % 3
    exact = rows.astype(np.float64)
    assert evaluate(rows.astype(kind), labels, METRICS) == evaluate(exact, labels, METRICS)
    if kind is not np.longdouble:
        tensor = torch.from_numpy(rows.astype(kind))
        assert evaluate(tensor, labels, METRICS) == evaluate(exact, labels, METRICS)


def test_a_class_of_the_gallery_is_not_another_of_the_queries(data):
    rows, labels = data
    # as 64 bits both would be the same
    with pytest.raises(RunError, match="no class of the queries is in the gallery"):
        evaluate(rows, labels.numpy().astype(np.uint64) + 2**63, ["mrr"], gallery=rows,
                 gallery_labels=labels - 2**63)
