"""A run's folder is new, locked and written whole; a run and its repetition are compared."""
import csv
import errno
import json
import math
import os
import platform
import subprocess
from types import SimpleNamespace

import pytest
import torch

from utilities import logger
from utilities.errors import RunError
from utilities.logger import RunFolder, differences, provenance, write_json, write_text


def test_a_used_name_gets_the_first_free_number(tmp_path):
    parent = tmp_path / "runs" / "glyphs"
    parent.mkdir(parents=True)
    (parent / "ä").mkdir()
    (parent / "ä-2").write_text("a file")
    (parent / "ä-4").mkdir()
    names = [RunFolder.new(str(tmp_path / "runs"), "glyphs", "ä").path.name for _ in range(2)]
    assert names == ["ä-3", "ä-5"]
    assert (parent / "ä-2").read_text() == "a file"


@pytest.mark.parametrize("name,words", [
    ("x" * 300, "File name too long"),
    ("a/b", "No such file or directory"),
])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, name, words):
    with pytest.raises(RunError) as caught:
        RunFolder.new(str(tmp_path), "glyphs", name)
    place = tmp_path / "glyphs"
    advice = "Choose a --save_path that you may write to, or a shorter --savename."
    assert str(caught.value) == f"The run's folder cannot be made in {place} ({words}). {advice}"


def test_a_folder_that_is_in_use_is_refused_until_it_is_closed(tmp_path):
    folder = RunFolder.new(str(tmp_path), "glyphs", "a")
    with pytest.raises(RunError, match="a: another process is training in this folder; wait for"):
        RunFolder(folder.path)
    folder.close()
    again = RunFolder(folder.path)
    assert again.path == folder.path
    again.close()
    again.close()


def test_a_folder_is_removed_with_all_that_is_in_it(tmp_path):
    folder = RunFolder.new(str(tmp_path), "glyphs", "a")
    write_text(folder / "b.txt", "b")
    (folder / "c").mkdir()
    folder.remove()
    assert os.listdir(tmp_path / "glyphs") == []


def test_columns_stand_first_and_others_follow_as_they_appear(tmp_path):
    folder = RunFolder.new(str(tmp_path), "glyphs", "a")
    folder.write_csv("a.csv", [{"c": 1, "b": None}, {"d": math.nan, "a": "-x"}], ("a", "b"))
    with open(folder / "a.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert lines == [["a", "b", "c", "d"], ["", "", "1", ""], ["'-x", "", "", "nan"]]
    folder.write_csv("none.csv", [], ("a", "b"))
    assert (folder / "none.csv").read_bytes() == b"a,b\r\n"


def test_json_of_any_text_is_read_again(tmp_path):
    content = {"ä": "猫 \udcff \x1b", "list": [1, None, True], "number": 1e-300}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.endswith("}\n") and text.isascii()


def test_what_cannot_be_json_leaves_the_file_that_was_there(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": torch.zeros(1)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_row_that_fails_leaves_the_table_that_was_there(tmp_path):
    class Broken:
        def __str__(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    folder = RunFolder.new(str(tmp_path), "glyphs", "a")
    folder.write_csv("a.csv", [{"a": 1}])
    with pytest.raises(RunError) as caught:
        folder.write_csv("a.csv", [{"a": 2}, {"a": Broken()}])
    place = folder / "a.csv"
    assert f"{place} cannot be written (No space left on device). Free" in str(caught.value)
    assert place.read_bytes() == b"a\r\n1\r\n"


@pytest.mark.parametrize("place", ["gone/a.txt", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=f"{place} cannot be written .* or choose another place"):
        write_text(tmp_path / place, "a")


# ---- provenance


def test_provenance_is_json_and_says_where_and_with_what(monkeypatch):
    monkeypatch.setattr(logger, "PACKAGES", ("torch", "no-such-package-x"))
    torch.set_num_threads(1)
    found = provenance({"tau": [1]}, "cpu")
    assert json.loads(json.dumps(found)) == found
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["no-such-package-x"] is None
    assert (found["device"], found["device_model"]) == ("cpu", platform.machine())
    assert (found["threads"], found["processes"]) == (1, 1)


def test_a_gpu_is_recorded_by_its_model(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Model of {device}")
    assert provenance({}, "cuda:1")["device_model"] == "Model of cuda:1"


@pytest.mark.parametrize("outcome", [
    FileNotFoundError("git"),
    subprocess.TimeoutExpired("git", 10),
    SimpleNamespace(returncode=128, stdout="fatal"),
])
def test_without_git_or_a_checkout_there_is_no_commit_and_no_change(monkeypatch, outcome):
    def run(*_, **__):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    found = provenance({}, "cpu")
    assert found["commit"] is None
    assert found["uncommitted_changes"] is False


NOW = {"flags": {"bs": 8, "tau": (1, 2)}, "versions": {"torch": "2"}, "commit": None, "threads": 4}
THEN = NOW | {"flags": {"bs": 8, "tau": [1, 2]}}


@pytest.mark.parametrize("then,lines", [
    (THEN, []),
    (THEN | {"flags": {"bs": 8, "tau": [1, 2], "gone": 1}}, []),
    (THEN | {"more": 1, "uncommitted_changes": "yes"}, []),
    (THEN | {"flags": {"bs": 9, "tau": [1, 2]}}, ["--bs: 8 instead of 9"]),
    (THEN | {"flags": {"bs": 8, "tau": [2, 1]}}, ["--tau: [1, 2] instead of [2, 1]"]),
    (THEN | {"versions": {}}, ["torch: '2' instead of None"]),
    (THEN | {"threads": "ä\n"}, [r"threads: 4 instead of '\xe4\n'"]),
    (THEN | {"commit": "x" * 99}, ["commit: None instead of '" + "x" * 79]),
    (
        THEN | {"uncommitted_changes": True},
        ["the code of the run had changes that no commit holds"],
    ),
])
def test_a_line_for_each_difference(then, lines):
    assert differences(then, NOW) == lines


@pytest.mark.parametrize("flags", [None, 3, "text", ["bs"]])
def test_a_record_of_any_origin_is_compared(flags):
    lines = differences({"flags": flags}, NOW)
    assert lines[:2] == ["--bs: 8 instead of None", "--tau: [1, 2] instead of None"]
    assert lines[2:] == ["torch: '2' instead of None", "threads: 4 instead of None"]
