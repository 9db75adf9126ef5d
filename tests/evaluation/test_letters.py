"""Names in pictures: letters of any script without a warning, and none that shows as a box."""
import warnings

import numpy as np
import pytest

from evaluation.report import letters
from evaluation.report.canvas import CELL, Canvas
from evaluation.report.letters import drawable, families

NAMES = ["猫", "собака", "नमस्ते", "🐈", "a:b", "$x^2$", "a\tb\nc", "\udcff", "ل", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_drawn_without_a_warning(tmp_path, name):
    canvas = Canvas(1, [1], name)
    canvas.heading(name)
    image = np.zeros((CELL, CELL, 3), dtype=np.uint8)
    canvas.query(image, name)
    canvas.result(image, name, 0.5, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas.save(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 0


def test_letters_that_no_font_has_are_escaped(monkeypatch):
    monkeypatch.setattr(letters, "_letters", lambda: frozenset(map(ord, "abcд ")))
    assert drawable("ab д") == "ab д"
    assert drawable("a猫\n\x1b") == "a\\u732b\\n\\x1b"


def test_latin_greek_and_cyrillic_stay_as_they_are():
    assert families()[0] == "DejaVu Sans"
    for text in ("Gråspurv №5 – ½", "αβγ", "Журавль", "a_b: c|d & <e>"):
        assert drawable(text) == text
