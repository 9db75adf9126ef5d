"""Embedding that is ended and continued: equal to the last bit, and never with anything else than it was begun with."""
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import architectures
from architectures import export
from evaluation.embed import command
from evaluation.embed import parts as embedding_parts
from evaluation.embed.parts import FOLDER, Parts
from utilities import checkpoint
from utilities.errors import RunError, UsageError

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from evaluation.embed import command
from evaluation.embed import parts as embedding_parts
embedding_parts.SECONDS, write, number = 0, embedding_parts.Parts.write, int(sys.argv.pop(1))
def and_die(self):
    global number
    write(self)
    number -= 1
    if not number:
        os.kill(os.getpid(), signal.SIGKILL)
embedding_parts.Parts.write = and_die
command.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven images in two folders, one of them damaged."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(11):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(random.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(root / "ab"[i % 2] / f"{i}.png")
    (root / "b" / "3.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    torch.manual_seed(0)
    model = architectures.select("convnet_normalize", embed_dim=8, pretrained=False)
    options = {"arch": "convnet_normalize", "embed_dim": 8, "memory": "none", "image_size": 16, "bs": 2, "amp": "none"}
    checkpoint.save(path, {"network": model.state_dict(), "options": options})
    return path


@pytest.fixture(scope="module")
def whole(folder, trained, tmp_path_factory):
    """The files of a call that was never ended."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(trained, folder, "--out", out) == 0
    return files(out)


def run(*argv):
    return command.main([str(word) for word in argv] + ["--device", "cpu"])


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def parts_of(out):
    return sorted(path.name for path in (out / FOLDER).glob("rows*"))


def test_a_file_is_that_of_numpy_and_bounded_in_memory(folder, trained, whole, tmp_path):
    assert set(whole) == {"embeddings.npy", "labels.csv", "embeddings.json"}
    (tmp_path / "x.npy").write_bytes(whole["embeddings.npy"])
    rows = np.load(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", rows)
    assert (tmp_path / "y.npy").read_bytes() == whole["embeddings.npy"] and rows.shape == (10, 8)
    told = json.loads(whole["embeddings.json"])
    assert told["skipped"] == ["b/3.png"] and told["checkpoint"]["path"] == str(trained) and told["rows"] == 10
    assert told["images"] == str(folder) and told["preprocessing"] == {"image_size": 16, "augmentation": "base"}


@pytest.mark.parametrize("number", [1, 3])
def test_after_kill_9_the_same_call_ends_as_if_nothing_had_been(folder, trained, whole, tmp_path, number):
    argv = [str(trained), str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(number), *argv], cwd=ROOT, capture_output=True,
                           env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(parts_of(tmp_path / "out")) == number and not (tmp_path / "out" / "embeddings.npy").exists()
    seen = []
    model = architectures.Network.embed
    try:
        architectures.Network.embed = lambda self, image, *rest: (seen.append(len(image)), model(self, image, *rest))[1]
        assert run(trained, folder, "--out", tmp_path / "out") == 0
    finally:
        architectures.Network.embed = model
    assert sum(seen) == 11 - 2 * number and files(tmp_path / "out") == whole


@pytest.mark.parametrize("number,code,name", [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_ends_it_after_the_batch_at_hand(folder, trained, whole, tmp_path, capsys, monkeypatch, number, code,
                                                  name):
    add = Parts.add
    monkeypatch.setattr(Parts, "add", lambda self, *batch: (add(self, *batch), signal.raise_signal(number))[0])
    out = tmp_path / "out"
    for done in range(1, 6):                                                       # once after every batch
        assert run(trained, folder, "--out", out) == code
        assert f"Stopped by {name}; the same command continues" in capsys.readouterr().err
        assert len(parts_of(out)) == done
    monkeypatch.undo()
    assert run(trained, folder, "--out", out) == 0 and files(out) == whole


@pytest.fixture
def half(folder, trained, tmp_path):
    """A copy of the images, and an embedding of it that is half done."""
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(folder, images)
    with pytest.MonkeyPatch.context() as patch:
        add = Parts.add
        patch.setattr(Parts, "add", lambda self, *batch: (add(self, *batch), signal.raise_signal(signal.SIGTERM))[0])
        assert run(trained, images, "--out", out) == 143
    return images, out


@pytest.mark.parametrize("more,word", [
    (["--bs", "4"], "batch size 2 there, 4 now"), (["--amp", "bf16"], "precision none there, bf16 now"),
    (["--image_size", "24"], "preprocessing"), (["--split", "test"], "images 11 images"), ("checkpoint", "checkpoint"),
    ("changed", "images 11 images"), ("added", "now"), ("renamed", "images 11 images")])
def test_it_does_not_continue_with_anything_else(half, trained, tmp_path, capsys, more, word):
    images, out = half
    if more == "checkpoint":
        state = checkpoint.load(trained)
        checkpoint.save(tmp_path / "other.pt", state | {"epoch": 7})
        trained = tmp_path / "other.pt"
    if more == "changed":
        os.utime(images / "a" / "0.png", (1, 1))
    if more == "added":
        shutil.copy(images / "a" / "0.png", images / "a" / "99.png")
    if more == "renamed":
        (images / "a" / "0.png").rename(images / "a" / "00.png")
    if more == ["--split", "test"]:
        rows = [f"{path.relative_to(images)},{path.stem},{'test'}\n" for path in sorted(images.rglob("*.png"))]
        (images / "labels.csv").write_text("path,label,split\n" + "".join(rows))
    before = {path.name: path.read_bytes() for path in (out / FOLDER).iterdir()}
    assert run(trained, images, "--out", out, *(more if isinstance(more, list) else [])) == 2
    said = capsys.readouterr().err
    assert "begun otherwise" in said and word in said
    assert {path.name: path.read_bytes() for path in (out / FOLDER).iterdir()} == before


def test_damaged_parts_are_refused_and_another_process_kept_out(half, trained, capsys):
    images, out = half
    with Parts(out, json.loads((out / FOLDER / "work.json").read_text())):
        assert run(trained, images, "--out", out) == 1
        assert "another process" in capsys.readouterr().err
    part = out / FOLDER / parts_of(out)[0]
    for damaged in (part.read_bytes()[:50], b"\x80\x04cos\nsystem\n"):
        part.write_bytes(damaged)
        assert run(trained, images, "--out", out) == 1 and "is damaged" in capsys.readouterr().err
    np.savez(part, rows=np.ones((1, 8), np.float32), damaged=np.zeros(1, bool))
    part.rename(part.with_name("rows-000000000008.npz"))
    assert run(trained, images, "--out", out) == 1 and "is missing" in capsys.readouterr().err
    (out / FOLDER / "work.json").write_text("[]")
    assert run(trained, images, "--out", out) == 2 and "work.json cannot be read" in capsys.readouterr().err


def test_what_was_not_begun_leaves_nothing(tmp_path):
    with pytest.raises(RunError), Parts(tmp_path / "out", {"a": 1}):
        raise RunError("before the first batch")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / FOLDER).mkdir(parents=True)
    (tmp_path / "out" / FOLDER / "work.json").write_text("killed while it was writ")
    with Parts(tmp_path / "out", {"a": 2}) as parts:
        parts.add(np.ones((2, 3), np.float32), np.array([False, True]))
    with pytest.raises(UsageError, match="a 2 there, 3 now"), Parts(tmp_path / "out", {"a": 3}):
        pass
    with Parts(tmp_path / "out", {"a": 2}) as parts:
        assert parts.done == 2 and parts.damaged == [1]


def test_parts_are_written_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(embedding_parts.time, "monotonic", lambda: now[0])
    with Parts(tmp_path, {}) as parts:
        for second, written in ((4, 0), (9, 0), (10, 1), (15, 1), (30, 2)):
            now[0] = second
            parts.add(np.ones((1, 2), np.float32), np.zeros(1, bool))
            assert len(parts_of(tmp_path)) == written


def test_without_out_the_files_lie_beside_the_checkpoint(folder, trained, whole, tmp_path):
    shutil.copy(trained, tmp_path / "best_e_recall@1.pt")
    assert run(tmp_path / "best_e_recall@1.pt", folder) == 0
    made = tmp_path / f"best_e_recall@1-{folder.name}"
    assert files(made)["embeddings.npy"] == whole["embeddings.npy"]
    assert run(tmp_path / "best_e_recall@1.pt", folder) == 2                       # never overwritten


def test_an_exported_folder_embeds_as_its_checkpoint(folder, trained, whole, tmp_path, capsys):
    assert export.main([str(trained), "--format", "safetensors", "--out", str(tmp_path / "model")]) == 0
    assert run(tmp_path / "model", folder) == 0
    made = files(tmp_path / f"model-{folder.name}")
    assert made["embeddings.npy"] == whole["embeddings.npy"] and made["labels.csv"] == whole["labels.csv"]
    rows = list(csv.DictReader(made["labels.csv"].decode().splitlines()))
    assert len(rows) == 10
    assert run(folder, folder) == 2 and "no model.json" in capsys.readouterr().err
