"""Text of unknown origin on a terminal."""

import pytest
import torch

from utilities.text import counted, printable, shown


@pytest.mark.parametrize(
    "text,expected",
    [
        ("Ж ß é 日本", "Ж ß é 日本"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\udcff.png", r"\udcff.png"),
        ("\u202eabc\u2028", r"\u202eabc\u2028"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, expected):
    assert printable(text) == expected
    assert printable(text).encode("utf-8")


def test_a_path_is_a_text_too(tmp_path):
    assert printable(tmp_path / "a\nb") == rf"{tmp_path}/a\nb"


@pytest.mark.parametrize(
    "number,noun,expected",
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (1200, "training class", "1,200 training classes"),
        (1, "class", "1 class"),
        (2, "query", "2 queries"),
        (1, "query", "1 query"),
        (3, "process", "3 processes"),
    ],
)
def test_a_number_agrees_with_its_noun(number, noun, expected):
    assert counted(number, noun) == expected


def test_a_value_is_shown_by_its_type_and_shape():
    assert [shown(value) for value in ([1], None, torch.eye(2))] == ["list", "NoneType", "Tensor (2, 2)"]
