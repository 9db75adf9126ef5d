"""Files by torch.save of any origin: read without running or unpacking anything in them."""
import os
import pickle
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch

from utilities import saved

MIB = 2**20


class Bomb:
    """A pickle of it makes a folder."""

    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def written(folder, content, name="a.pt", **keywords):
    path = folder / name
    torch.save(content, path, **keywords)
    return path


def repacked(path, **changes):
    """The archive again, with settings of zipfile; parts may be replaced by their last name."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    compression = changes.pop("compression", zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, changes.get(name.rpartition("/")[2], content))
    return path


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("name", ["a.pt", "a", "ä 猫.safetensors"])
def test_tensors_and_plain_values_are_read_from_both_formats(tmp_path, new_format, name):
    content = {"w": torch.arange(6.0).view(2, 3), "list": [1, 2.5, "ä", None, True], "t": (1,)}
    path = written(tmp_path, content, name, _use_new_zipfile_serialization=new_format)
    found = saved.load(path)
    assert torch.equal(found.pop("w"), content.pop("w"))
    assert found == content
    assert saved.is_zip(path) is new_format
    begin = saved.ZIP if new_format else saved.OLDER
    assert path.read_bytes().startswith(begin)


def test_the_flags_and_numbers_of_other_projects_are_read(tmp_path):
    content = {
        "args": Namespace(lr=0.1, name="a"),
        "double": np.float64(0.5),
        "single": np.float32(0.25),
        "whole": np.int64(3),
    }
    found = saved.load(written(tmp_path, content))
    assert vars(found["args"]) == {"lr": 0.1, "name": "a"}
    assert [found[name] for name in ("double", "single", "whole")] == [0.5, 0.25, 3]


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, new_format):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, [Bomb()], _use_new_zipfile_serialization=new_format)
    with pytest.raises(pickle.UnpicklingError):
        saved.load(path)
    # harmless is what this list names, and nothing that it can reach
    path = written(tmp_path, Namespace(a=Bomb()), _use_new_zipfile_serialization=new_format)
    with pytest.raises(pickle.UnpicklingError):
        saved.load(path)
    assert not os.path.exists("exploded")


def test_what_is_allowed_inside_is_not_allowed_afterwards(tmp_path):
    path = written(tmp_path, Namespace(a=1))
    saved.load(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_compressed_parts_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = written(tmp_path, {"w": torch.zeros(MIB)})
    assert torch.equal(saved.load(repacked(path))["w"], torch.zeros(MIB))
    repacked(path, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < MIB / 100

    def unpacked(*_, **__):
        raise AssertionError("torch was asked")

    monkeypatch.setattr(torch, "load", unpacked)
    with pytest.raises(ValueError, match="its parts are compressed"):
        saved.load(path)


def test_compressed_parts_that_are_not_smaller_are_refused_too(tmp_path):
    path = written(tmp_path, {"w": torch.randint(256, (9999,), dtype=torch.uint8)})
    repacked(path, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size > 9999
    with pytest.raises(ValueError, match="compressed"):
        saved.load(path)


def test_parts_that_say_they_are_larger_than_the_file_are_refused(tmp_path):
    path = written(tmp_path, {"w": torch.zeros(8)})
    content = path.read_bytes()
    # the size of the last entry of the directory, 24 bytes after its signature
    place = content.rindex(b"PK\x01\x02") + 24
    path.write_bytes(content[:place] + (2**30).to_bytes(4, "little") + content[place + 4:])
    with pytest.raises(ValueError, match="compressed"):
        saved.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06", b"text", b"\x80\x02"])
def test_other_bytes_raise_an_error(tmp_path, content):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert saved.is_zip(path) is content.startswith(b"PK\x03\x04")
    with pytest.raises(Exception):  # noqa: B017
        saved.load(path)


def test_a_file_is_whole_where_each_part_has_its_checksum(tmp_path):
    weight = torch.full((64,), 1.5)
    path = written(tmp_path, {"w": weight})
    assert saved.is_whole(path)
    content = path.read_bytes()
    place = content.index(weight.numpy().tobytes())
    path.write_bytes(content[:place] + b"\1" + content[place + 1:])
    assert not saved.is_whole(path)
    # torch alone reads what is damaged
    assert saved.load(path)["w"].ne(weight).sum() == 1


def test_the_older_format_and_what_is_no_archive_are_never_whole(tmp_path):
    old = written(tmp_path, {}, _use_new_zipfile_serialization=False)
    assert not saved.is_whole(old)
    (tmp_path / "b").write_bytes(b"")
    assert not saved.is_whole(tmp_path / "b")


def test_tensors_arrive_on_the_cpu_whatever_their_device(tmp_path):
    path = written(tmp_path, {"w": torch.zeros(2)})
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("a/data.pkl")
    assert b"cpu" in pickled
    # as a file of another machine, whose third GPU this one lacks
    other = pickled.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:2")
    found = saved.load(repacked(path, **{"data.pkl": other}))
    assert found["w"].device == torch.device("cpu")
