"""Names that are looked up, and modules of one's own that are loaded."""
import os
import sys

import pytest

from utilities.errors import UsageError
from utilities.registry import accepted, did_you_mean, lookup, own_class, own_module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder; modules that a test loads are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def written(folder, name, text):
    (folder / f"{name}.py").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name,hint", [
    ("margn", " Did you mean margin?"),
    ("Margin", " Did you mean margin?"),
    ("trip", " Did you mean triplet?"),
    ("xyz", ""),
    ("", ""),
])
def test_the_closest_name_is_suggested_where_one_is_close(name, hint):
    known = {"margin": 1, "triplet": None}
    assert did_you_mean(name, known) == hint
    with pytest.raises(UsageError) as caught:
        lookup(known, name, "loss", "--loss")
    sentence = f"--loss {name}: there is no loss of this name.{hint}"
    assert str(caught.value) == f"{sentence} Choose one of: margin, triplet."


def test_an_entry_that_is_none_is_found_and_no_name_is_close_to_nothing():
    assert lookup({"none": None}, "none", "memory", "--memory") is None
    assert did_you_mean("a", []) == ""


class Base:
    pass


class Takes(Base):
    def __init__(self, a, *more, b=1, **others):
        pass


def test_only_arguments_that_a_constructor_names_are_accepted():
    assert accepted(Takes, {"a": 1, "b": None, "c": 3, "self": 4}) == {"a": 1, "b": None}
    assert accepted(Base, {"a": 1}) == {}
    assert accepted(Takes, {}) == {}


def test_a_module_of_the_current_folder_is_found_once_on_the_path(folder):
    written(folder, "häuser_losses", "VALUE = 3\n")
    assert own_module("häuser_losses", "--loss häuser_losses.A").VALUE == 3
    own_module("häuser_losses", "--loss häuser_losses.A")
    assert sys.path.count(os.getcwd()) == 1
    # the library and the code are looked in first
    assert sys.path[-1] == os.getcwd()


def refused(name, asked="--loss x"):
    with pytest.raises(UsageError) as caught:
        own_module(name, asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name,text,words", [
    ("raises_one", "raise ValueError('first\\nsecond')", "ValueError: first"),
    ("raises_two", "1 / 0", "ZeroDivisionError: division by zero"),
    ("raises_three", "raise KeyError()", "KeyError: KeyError"),
    ("raises_four", "import no_such_library_x.part", "No module named 'no_such_library_x'"),
    ("raises_five", "from os import no_such_name_x", "ImportError: cannot import name"),
    ("raises_six", "def broken(:", "SyntaxError: "),
    ("raises_seven", "x = '\0'", "SyntaxError: "),
])
def test_a_module_that_fails_says_why(folder, name, text, words):
    written(folder, name, text)
    said = refused(name)
    assert said.startswith(f"--loss x: module {name} fails on import: ")
    assert words in said


@pytest.mark.parametrize("name", ["no_such_module_x", "no_such_package_x.part"])
def test_a_module_that_is_not_there_is_told_from_one_that_needs_another(folder, name):
    assert refused(name) == (
        f"--loss x: there is no module {name}: put {name}.py beside main.py or in the current "
        "folder."
    )


@pytest.mark.parametrize("name", ["", "..relative", ".."])
def test_what_is_no_name_of_a_module_is_refused(folder, name):
    assert refused(name).startswith(f"--loss x: module {name} fails on import: ")


CLASSES = """
from tests.utilities.test_registry import Base
from pathlib import Path

class Good(Base):
    def __init__(self, dim, *more, scale=1.0, **others): pass

class Positional(Base):
    def __init__(self, n, /): pass

class Keyword(Base):
    def __init__(self, *, width): pass

class Other: pass

number = 3
"""


def test_a_class_needs_only_what_the_caller_passes(folder):
    written(folder, "own_parts_x", CLASSES)
    good = own_class("own_parts_x.Good", Base, {"dim"}, "--loss")
    assert good.__name__ == "Good" and issubclass(good, Base)
    assert own_class("own_parts_x.Keyword", Base, ["width"], "--loss").__name__ == "Keyword"
    assert own_class("own_parts_x.Base", Base, (), "--loss") is Base


@pytest.mark.parametrize("name,words", [
    ("Good", "its constructor's argument dim needs a default, which you set in the file."),
    ("Positional", "its constructor's argument n needs a default, which you set in the file."),
    ("Keyword", "its constructor's argument width needs a default, which you set in the file."),
    ("Other", "Other must be a subclass of tests.utilities.test_registry.Base."),
    ("Path", "Path must be a subclass of tests.utilities.test_registry.Base."),
    ("Goood", "own_parts_x has no class Goood. Did you mean Good?"),
    ("number", "own_parts_x has no class number."),
    ("", "own_parts_x has no class ."),
])
def test_a_class_that_cannot_serve_is_refused(folder, name, words):
    written(folder, "own_parts_x", CLASSES)
    with pytest.raises(UsageError) as caught:
        own_class(f"own_parts_x.{name}", Base, {"scale"}, "--loss")
    assert str(caught.value) == f"--loss own_parts_x.{name}: {words}"
