"""Files and folders are replaced as a whole, or not at all."""

import hashlib
import os

import pytest

from utilities.digest import sha256
from utilities.files import remove, replacing, replacing_text


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_replaced_when_it_is_complete(tmp_path, sync):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path, sync=sync) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failure_before_the_first_byte_keeps_its_error(tmp_path):
    with pytest.raises(ValueError, match="first"), replacing(tmp_path / "a"):
        raise ValueError("first")
    assert os.listdir(tmp_path) == []


def test_a_folder_is_written_in_the_same_way(tmp_path):
    with replacing(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("x")
    assert (tmp_path / "out" / "a").read_text() == "x"
    with pytest.raises(ValueError), replacing(tmp_path / "other") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("x")
        raise ValueError
    assert os.listdir(tmp_path) == ["out"]


def test_remove_takes_files_folders_and_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file", "absent"):
        remove(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_the_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_text_is_replaced_in_utf8_and_with_its_line_ends(tmp_path):
    with replacing_text(tmp_path / "a.csv") as file:
        file.write("é\r\nß\n")
        assert not (tmp_path / "a.csv").exists()
    assert (tmp_path / "a.csv").read_bytes() == "é\r\nß\n".encode()


def test_a_byte_of_a_name_that_is_not_utf8_is_escaped_in_text(tmp_path):
    with replacing_text(tmp_path / "a.csv") as file:
        file.write(os.fsdecode(b"caf\xff,\xc3\xa9\n"))
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "caf\\udcff,é\n"
