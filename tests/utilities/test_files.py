"""Files and folders are replaced as a whole, or not at all."""

import hashlib
import os
import subprocess
import sys

import pytest

from utilities.digest import sha256
from utilities.errors import UsageError
from utilities.files import refuse_existing, refuse_input, remove, replacing, replacing_text


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


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")
    (tmp_path / "a.txt").symlink_to(target)
    with replacing_text(tmp_path / "a.txt") as file:
        file.write("new")
    assert (tmp_path / "a.txt").is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_written_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with replacing(tmp_path / "pipe", sync=True) as place:
        place.write_text("all")
    assert os.read(reader, 10) == b"all"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("redirected", [False, True])
def test_standard_output_is_written_wherever_it_leads(tmp_path, redirected):
    code = "from utilities.files import replacing_text\nwith replacing_text('/dev/stdout') as file: file.write('all')"
    out = tmp_path / "out.txt"
    with open(out, "w") as file:
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=file if redirected else subprocess.PIPE)
    assert (out.read_bytes() if redirected else done.stdout) == b"all"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("place", ["/", "."])
def test_a_folder_is_no_file(place):
    with pytest.raises(IsADirectoryError), replacing_text(place) as file:
        file.write("x")


def test_what_is_there_or_read_is_refused(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(UsageError, match="--out .*a is there already"):
        refuse_existing("--out", tmp_path / "a")
    with pytest.raises(UsageError, match="--out .*link is a file that this command reads"):
        refuse_input("--out", tmp_path / "link", [tmp_path / "a"])
    refuse_existing("--out", os.devnull)
    refuse_existing("--out", tmp_path / "b")
    refuse_input("--out", tmp_path / "b", [tmp_path / "a"])
