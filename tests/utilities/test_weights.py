"""Tensors that can be weights, and the digest of those of a network."""
import hashlib
import itertools

import pytest
import torch

from utilities.weights import add_to_digest, flaw_of, unusable

FLOAT = torch.zeros(2, 3)
WHOLE = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize("tensor,wanted,flaw", [
    (torch.randn(2, 3), FLOAT, None),
    (torch.randn(2, 3).half(), FLOAT, None),
    (torch.randn(2, 3).double(), FLOAT, None),
    (torch.randn(2, 3).bfloat16(), FLOAT, None),
    (torch.randn(3, 2).t(), FLOAT, None),
    (torch.zeros(0), torch.zeros(0), None),
    (torch.tensor(3), torch.tensor(0), None),
    (torch.zeros(2, 3, dtype=torch.int32), WHOLE, None),
    (torch.zeros(2, 3, dtype=torch.bool), WHOLE, None),
    (WHOLE, FLOAT, "int64"),
    (torch.zeros(2, 3, dtype=torch.bool), FLOAT, "bool"),
    (FLOAT, WHOLE, "float32"),
    (torch.zeros(2, 3, dtype=torch.complex64), FLOAT, "complex64"),
    (torch.zeros(2, 3, dtype=torch.complex64), WHOLE, "complex64"),
    (torch.tensor([0.0, float("nan")]), FLOAT, "NaN or inf"),
    (torch.tensor([0.0, float("inf")]), FLOAT, "NaN or inf"),
    (torch.tensor([0.0, -float("inf")]).half(), FLOAT, "NaN or inf"),
    (torch.empty(2, 3, device="meta"), FLOAT, "without plain values"),
    (torch.eye(3).to_sparse(), FLOAT, "without plain values"),
])
def test_what_is_wrong_with_a_tensor(tensor, wanted, flaw):
    assert flaw_of(tensor, wanted) == flaw


def test_all_that_cannot_be_used_are_named_with_their_reason():
    wanted = {"a": FLOAT, "b": FLOAT, "c": WHOLE}
    given = {"c": FLOAT, "a": torch.full((2, 3), float("nan")), "b": FLOAT}
    assert list(unusable(given, wanted)) == ["c: float32", "a: NaN or inf"]
    assert list(unusable({}, wanted)) == []


def digest_of(tensors):
    digest = hashlib.sha256()
    add_to_digest(digest, tensors)
    return digest.hexdigest()


def test_the_digest_is_that_of_names_and_bytes_in_the_order_of_the_names():
    tensors = {
        "b": torch.randn(2, 3),
        "ä": torch.tensor(5),
        "a": torch.randn(3).bfloat16(),
        "c": torch.zeros(0, 2),
        "d": torch.tensor([True, False]),
    }
    expected = hashlib.sha256()
    for name in sorted(tensors):
        expected.update(name.encode("utf-8"))
        expected.update(bytes(tensors[name].contiguous().untyped_storage()))
    assert digest_of(tensors) == expected.hexdigest()
    for order in itertools.islice(itertools.permutations(tensors), 0, 120, 17):
        assert digest_of({name: tensors[name] for name in order}) == expected.hexdigest()


def test_the_digest_is_of_the_values_and_not_of_their_place_in_memory():
    x = torch.randn(4, 6)
    same = torch.cat([torch.zeros(1, 4), x.t()])[1:].t()
    assert not same.is_contiguous() and torch.equal(same, x)
    assert digest_of({"w": same}) == digest_of({"w": x})


@pytest.mark.parametrize("other", [
    {"v": torch.ones(4)},
    {"w": torch.ones(4).double()},
    {"w": torch.tensor([1.0, 1.0, 1.0, 1.0000001])},
    {"w": torch.ones(5)},
    {"w": torch.ones(4), "x": torch.zeros(0)},
])
def test_another_name_type_value_or_length_is_another_digest(other):
    assert digest_of(other) != digest_of({"w": torch.ones(4)})


def test_zero_and_minus_zero_are_different_bytes():
    assert digest_of({"w": torch.tensor([0.0])}) != digest_of({"w": torch.tensor([-0.0])})
