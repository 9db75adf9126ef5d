"""Text of unknown origin on a terminal."""

import pytest

from utilities.text import printable


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
