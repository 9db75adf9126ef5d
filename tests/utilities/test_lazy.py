"""Names that are loaded when they are first used."""
import sys

import pytest

import evaluation
from evaluation import explorer, report, search
from utilities.lazy import loader


@pytest.mark.parametrize("package", [evaluation, explorer, report, search], ids=lambda package: package.__name__)
def test_every_name_of_a_package_is_where_it_says(package):
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_a_module_is_loaded_by_its_first_name(tmp_path, monkeypatch):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "book.py").write_text("PAGES = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    load = loader("shelf", {"PAGES": "book"})
    assert "shelf.book" not in sys.modules
    assert load("PAGES") == 7 and "shelf.book" in sys.modules
    with pytest.raises(AttributeError, match="module 'shelf' has no attribute 'cover'"):
        load("cover")
