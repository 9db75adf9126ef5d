"""Flags in files and on the command line."""

import pytest

from utilities.flags import as_recorded, as_typed


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "a", [1, 2]])
def test_a_value_that_json_keeps_stays(value):
    assert as_recorded(value) is value


def test_a_tuple_is_recorded_as_a_list():
    assert as_recorded((1, 2)) == [1, 2]


@pytest.mark.parametrize(
    "value,typed",
    [
        (None, "no --x"),
        (True, "--x"),
        (3, "--x 3"),
        ("gem", "--x gem"),
        ([0.0, 1.5], "--x 0.0 1.5"),
    ],
)
def test_a_flag_as_it_is_typed(value, typed):
    assert as_typed("x", value) == typed
