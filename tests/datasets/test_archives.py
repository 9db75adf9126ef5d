"""Extraction of sound, damaged and hostile archives."""
import errno
import gzip
import io
import os
import shutil
import stat
import tarfile
import threading
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from datasets import archives
from datasets.archives import extract, staged
from tests.datasets import trees
from tests.utilities.test_download import fill_disk, killed
from utilities.errors import RunError

MAKERS = {"tgz": trees.make_tgz, "zip": trees.make_zip}
HOSTILE = [(trees.hostile_tgz, "tgz", kind) for kind in trees.HOSTILE_TAR if kind != "setuid"] + [
    (trees.hostile_zip, "zip", kind) for kind in trees.HOSTILE_ZIP]


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def unpack(archive, target, place=lambda name: name):
    """As prepare does it."""
    with staged(target) as folder:
        return extract(archive, folder, place)


def refused(archive, target, *said):
    """The one sentence with which an archive is refused; nothing is left of it beside the
    archive.
    """
    before = sorted(target.parent.parent.rglob("*"))
    with pytest.raises(RunError) as caught:
        unpack(archive, target)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    assert sorted(target.parent.parent.rglob("*")) == before
    for word in said:
        assert str(word) in sentence, sentence


@pytest.fixture(params=MAKERS)
def archive(request, tmp_path):
    """The archive of a tree of 32 images."""
    tree = trees.cub_official(tmp_path / "made")
    return MAKERS[request.param](tree, tmp_path / f"set.{request.param}")


def test_everything_is_extracted(archive, tmp_path):
    whole = contents(tmp_path / "made")
    assert unpack(archive, tmp_path / "set") == len(whole)
    assert contents(tmp_path / "set") == whole


def test_members_are_chosen_and_placed(archive, tmp_path):
    inner = "CUB_200_2011/images/001.Black_footed_Albatross/"
    count = unpack(archive, tmp_path / "set",
                   lambda name: f"first/{Path(name).name}" if name.startswith(inner) else None)
    expected = {
        f"first/{path.name}": path.read_bytes() for path in (tmp_path / "made" / inner).iterdir()
    }
    assert count == 4 and contents(tmp_path / "set") == expected


def test_stray_files_stay_behind(tmp_path):
    tree = trees.cub_base(tmp_path / "made", traps={"stray"})
    unpack(trees.make_zip(tree, tmp_path / "set.zip"), tmp_path / "set")
    names = {Path(name).name for name in contents(tmp_path / "set")}
    assert not {name for name in names if name.startswith(".")}
    assert names.isdisjoint({"Thumbs.db", "desktop.ini"}) and "notes.txt" in names


@pytest.mark.parametrize("make, kind, hostile", HOSTILE)
def test_hostile_archives_are_refused(make, kind, hostile, tmp_path):
    (tmp_path / "inner").mkdir()
    archive = make(tmp_path / f"set.{kind}", hostile)
    refused(archive, tmp_path / "inner" / "set", archive)
    assert not Path("/outside.jpg").exists()


def test_rights_of_members_are_not_taken_over(tmp_path):
    unpack(trees.hostile_tgz(tmp_path / "set.tgz", "setuid"), tmp_path / "set")
    (tmp_path / "new").touch()
    mode = (tmp_path / "set" / "set" / "run.jpg").stat().st_mode
    assert mode == (tmp_path / "new").stat().st_mode and not mode & stat.S_ISUID


def save_tgz(path, members):
    """A .tgz of names and contents."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("placed", [True, False])
def test_a_tar_that_is_a_bomb(placed, tmp_path):
    archive = save_tgz(tmp_path / "set.tgz", [("zeros.jpg", bytes(16 * 2**20))])
    assert archive.stat().st_size < 2**16
    with pytest.raises(RunError, match="more than 100 times its size"):
        unpack(archive, tmp_path / "set", lambda name: name if placed else None)
    assert not (tmp_path / "set").exists()


SPARSE = {
    "0.0": {"GNU.sparse.size": str(2**32), "GNU.sparse.numblocks": "0"},
    "0.1": {"GNU.sparse.size": str(2**32), "GNU.sparse.map": "0,0"},
    "1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.jpg",
            "GNU.sparse.realsize": str(2**32)},
}


@pytest.mark.parametrize("version", SPARSE)
def test_a_sparse_member_of_four_gigabytes_is_not_written(version, tmp_path):
    content = b"1\n0\n0\n".ljust(512, b"\0") if version == "1.0" else b""
    with tarfile.open(tmp_path / "set.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a.jpg")
        entry.pax_headers = SPARSE[version]
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    assert (tmp_path / "set.tgz").stat().st_size < 2000
    with tarfile.open(tmp_path / "set.tgz") as archive:
        assert archive.next().size == 2**32
    refused(tmp_path / "set.tgz", tmp_path / "set", "neither a plain file nor a folder")


def test_members_are_bounded_before_they_are_written(tmp_path, monkeypatch):
    """A header may say more than the archive can hold."""
    written = []
    monkeypatch.setattr(archives, "_write", lambda *args: written.append(args))
    archive = save_tgz(tmp_path / "set.tgz", [("a.jpg", bytes(10)), ("b.jpg", bytes(4 * 2**20))])
    refused(archive, tmp_path / "set", "more than 100 times its size")
    assert len(written) == 1


def test_a_bomb_behind_the_last_member(tmp_path):
    with gzip.open(tmp_path / "set.tgz", "wb") as file:
        file.write(bytes(16 * 2**20))
    refused(tmp_path / "set.tgz", tmp_path / "set", "more than 100 times its size")


def test_a_member_without_a_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("image", "1")
        file.writestr(zipfile.ZipInfo(""), "2")
    refused(tmp_path / "a.zip", tmp_path / "target", "is damaged")


def test_a_name_that_stands_twice(tmp_path):
    archive = save_tgz(tmp_path / "set.tgz", [("a.jpg", b"1"), ("a.jpg", b"2")])
    refused(archive, tmp_path / "set", "a.jpg is in it twice")
    refused(save_tgz(tmp_path / "set.tgz", [("a", b"1"), ("a/b.jpg", b"2")]), tmp_path / "set")


def test_too_many_members(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    refused(archive, tmp_path / "set", "more than 5 members")


@pytest.mark.parametrize("keep", [0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_archive(archive, keep, tmp_path):
    content = archive.read_bytes()
    archive.write_bytes(content[:int(keep * len(content))])
    refused(archive, tmp_path / "set", archive, "fetch it again")


@pytest.mark.parametrize("where", [0, 0.1, 0.5, 0.9])
def test_a_flipped_byte(archive, where, tmp_path):
    content = bytearray(archive.read_bytes())
    content[int(where * len(content))] ^= 255
    archive.write_bytes(content)
    try:
        unpack(archive, tmp_path / "set")
    except RunError as error:
        assert str(archive) in str(error) and not (tmp_path / "set").exists()
    else:  # in a date or a comment
        assert contents(tmp_path / "set") == contents(tmp_path / "made")


def test_an_encrypted_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.jpg", b"content")
    content = bytearray((tmp_path / "set.zip").read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags] |= 1
    (tmp_path / "set.zip").write_bytes(content)
    refused(tmp_path / "set.zip", tmp_path / "set", "encrypted")


def test_a_full_disk(archive, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fill_disk(patch, 500, ".jpg")
        refused(archive, tmp_path / "set", "disk is full", "nothing was put in place")
    assert unpack(archive, tmp_path / "set")


def test_space_is_checked_before(archive, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage(10**6, 0, archive.stat().st_size - 1)
    )
    refused(archive, tmp_path / "set", "are free")


def test_space_is_checked_for_each_member(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.jpg").write_bytes(bytes(50_000))
    archive = trees.make_zip(tmp_path / "made", tmp_path / "set.zip")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 49_999))
    refused(archive, tmp_path / "set", "are free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 50_000))
    assert unpack(archive, tmp_path / "set") == 1


def test_an_archive_that_cannot_be_read_is_no_full_disk(archive, tmp_path, monkeypatch):
    def broken(self, size=-1):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    reader = zipfile.ZipExtFile if archive.suffix == ".zip" else tarfile.ExFileObject
    monkeypatch.setattr(reader, "read", broken)
    refused(archive, tmp_path / "set", archive, "Input/output error")


def test_an_interruption_leaves_nothing(archive, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "set") as folder:
        extract(archive, folder, lambda name: name)
        raise KeyboardInterrupt
    assert sorted(tmp_path.iterdir()) == before


def test_a_target_that_is_there_stays(archive, tmp_path):
    trees.write_lines(tmp_path / "set" / "mine.txt", ["content"])
    refused(archive, tmp_path / "set", tmp_path / "set")
    assert contents(tmp_path / "set") == {"mine.txt": b"content\n"}


def test_killed_in_the_middle(tmp_path):
    archive = trees.make_tgz(trees.cub_official(tmp_path / "made"), tmp_path / "set.tgz")
    target = tmp_path / "set"

    placed = []

    def place(name):
        if len(placed) == 6:
            threading.Event().wait()
        placed.append(name)
        return name

    killed(
        lambda: unpack(archive, target, place),
        lambda: len(contents(tmp_path / ".set.unfinished")) == 6,
    )
    assert not target.exists()
    unpack(archive, target)
    assert contents(target) == contents(tmp_path / "made")
    assert sorted(os.listdir(tmp_path)) == ["made", "set", "set.tgz"]
