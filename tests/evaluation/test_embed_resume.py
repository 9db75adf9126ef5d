"""Embedding that is interrupted and continued: equal to the last bit, and only with equal input."""
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
from evaluation.embed.unfinished import ROWS, WORK, begin_or_continue, read_rows
from utilities import checkpoint
from utilities.errors import UsageError
from utilities.lock import Lock

ROOT = Path(__file__).parents[2]
# evaluation.embed, killed when the given number of batches is written
KILLED = """
import os, signal, sys
from evaluation.embed import command
embedded, number = command.embedded, int(sys.argv.pop(1))
def until_killed(*args, **kwargs):
    for done, batch in enumerate(embedded(*args, **kwargs)):
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
command.embedded = until_killed
command.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven images in two folders, one of them damaged."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for i in range(11):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = random.integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (root / "b" / "3.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    torch.manual_seed(0)
    model = architectures.select("convnet_normalize", embed_dim=8, pretrained=False)
    options = {"arch": "convnet_normalize", "embed_dim": 8, "memory": "none", "image_size": 16,
               "bs": 2, "amp": "none"}
    checkpoint.save(path, {"network": model.state_dict(), "options": options})
    return path


@pytest.fixture(scope="module")
def whole(folder, trained, tmp_path_factory):
    """The files of a call that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(trained, folder, "--out", out) == 0
    return files(out)


def run(*argv):
    return command.main([str(word) for word in argv] + ["--device", "cpu"])


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def batches_done(out):
    return len(read_rows(out, 8)) / 2


def signal_at_each_batch(patch, number):
    embedded = command.embedded

    def signalling(*args, **kwargs):
        for batch in embedded(*args, **kwargs):
            signal.raise_signal(number)
            yield batch
    patch.setattr(command, "embedded", signalling)


def test_the_files_are_those_of_numpy_and_say_how_they_were_made(folder, trained, whole, tmp_path):
    assert set(whole) == {"embeddings.npy", "labels.csv", "embeddings.json"}
    (tmp_path / "x.npy").write_bytes(whole["embeddings.npy"])
    rows = np.load(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", rows)
    assert (tmp_path / "y.npy").read_bytes() == whole["embeddings.npy"]
    assert rows.shape == (10, 8)
    description = json.loads(whole["embeddings.json"])
    assert description["skipped"] == ["b/3.png"]
    assert description["checkpoint"]["path"] == str(trained)
    assert description["rows"] == 10
    assert description["images"] == str(folder)
    assert description["preprocessing"] == {"image_size": 16, "augmentation": "base"}


@pytest.mark.parametrize("number", [1, 3])
def test_after_kill_9_the_same_call_ends_as_if_nothing_had_been(folder, trained, whole, tmp_path,
                                                                monkeypatch, number):
    out = tmp_path / "out"
    argv = [trained, folder, "--out", out, "--device", "cpu"]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(number), *map(str, argv)], cwd=ROOT,
                           capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert batches_done(out) == number
    assert not (out / "embeddings.npy").exists()
    seen = []
    embed = architectures.Network.embed

    def counted(self, image, *rest):
        seen.append(len(image))
        return embed(self, image, *rest)
    monkeypatch.setattr(architectures.Network, "embed", counted)
    assert run(trained, folder, "--out", out) == 0
    assert sum(seen) == 11 - 2 * number
    assert files(out) == whole


@pytest.mark.parametrize("number, code, name", [(signal.SIGINT, 130, "Ctrl-C"),
                                                (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_ends_it_after_the_current_batch(folder, trained, whole, tmp_path, capsys,
                                                  monkeypatch, number, code, name):
    out = tmp_path / "out"
    signal_at_each_batch(monkeypatch, number)
    for done in range(1, 6):
        assert run(trained, folder, "--out", out) == code
        assert f"Stopped by {name}; the same command continues" in capsys.readouterr().err
        assert batches_done(out) == done
    monkeypatch.undo()
    assert run(trained, folder, "--out", out) == 0
    assert files(out) == whole


@pytest.fixture
def half(folder, trained, tmp_path, monkeypatch):
    """A copy of the images, and an embedding of it that is begun."""
    images = tmp_path / "images"
    out = tmp_path / "out"
    shutil.copytree(folder, images)
    with monkeypatch.context() as patch:
        signal_at_each_batch(patch, signal.SIGTERM)
        assert run(trained, images, "--out", out) == 143
    return images, out


@pytest.mark.parametrize("flags, words", [
    ("--bs 4", "batch size 2 there, 4 now"),
    ("--amp bf16", "precision none there, bf16 now"),
    ("--image_size 24", "preprocessing"),
])
def test_it_does_not_continue_with_other_flags(half, trained, capsys, flags, words):
    images, out = half
    check_refused(capsys, out, words, trained, images, *flags.split())


def check_refused(capsys, out, words, *argv):
    """The call is refused with these words, and changes nothing."""
    before = files(out)
    assert run(*argv, "--out", out) == 2
    said = capsys.readouterr().err
    assert "begun otherwise" in said
    assert words in said
    assert files(out) == before


def test_it_does_not_continue_with_another_checkpoint(half, trained, tmp_path, capsys):
    images, out = half
    checkpoint.save(tmp_path / "other.pt", checkpoint.load(trained) | {"epoch": 7})
    check_refused(capsys, out, "checkpoint", tmp_path / "other.pt", images)


@pytest.mark.parametrize("change", ["pooling", "model.json"])
def test_it_does_not_continue_with_a_library_s_model_of_other_settings(folder, tmp_path, capsys, monkeypatch,
                                                                       change):
    out = tmp_path / "out"
    weights = tmp_path / "w.pt"
    model = architectures.select("convnet", embed_dim=0, pretrained=False)
    torch.save(model.backbone.state_dict(), weights)
    argv = ["convnet", folder, "--weights", weights, "--image_size", "16", "--bs", "2", "--pooling"]
    with monkeypatch.context() as patch:
        signal_at_each_batch(patch, signal.SIGTERM)
        assert run(*argv, "avg", "--out", out) == 143
    if change == "pooling":
        check_refused(capsys, out, "pooling avg there, max now", *argv, "max")
        return
    pixels = {"mean": [.1] * 3, "std": [.2] * 3, "image_size": 16, "channels": "RGB", "value_range": 1.0}
    (tmp_path / "model.json").write_text(json.dumps({"preprocessing": pixels}))
    check_refused(capsys, out, "pixels", *argv, "avg")


CHANGES = {
    "touched": lambda images: os.utime(images / "a" / "0.png", (1, 1)),
    "added": lambda images: shutil.copy(images / "a" / "0.png", images / "a" / "99.png"),
    "renamed": lambda images: (images / "a" / "0.png").rename(images / "a" / "00.png"),
    "split": lambda images: write_split(images),
}


def write_split(images):
    """A labels.csv that makes a test split of all."""
    paths = sorted(images.rglob("*.png"))
    lines = [f"{path.relative_to(images)},{path.stem},test\n" for path in paths]
    (images / "labels.csv").write_text("path,label,split\n" + "".join(lines))


@pytest.mark.parametrize("change", CHANGES)
def test_it_does_not_continue_with_other_images(half, trained, capsys, change):
    images, out = half
    CHANGES[change](images)
    flags = ["--split", "test"] if change == "split" else []
    check_refused(capsys, out, "images 11 images", trained, images, *flags)


def test_another_process_is_kept_out(half, trained, capsys):
    images, out = half
    with Lock(out):
        assert run(trained, images, "--out", out) == 1
    assert "another process" in capsys.readouterr().err


def test_a_damaged_description_of_the_work_is_refused(half, trained, capsys):
    images, out = half
    for text in ("[]", "{", "[" * 100_000):
        (out / WORK).write_text(text)
        assert run(trained, images, "--out", out) == 1
        assert f"{WORK} is damaged; remove it to begin anew" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"\0" * 64, b"\1\0"])
def test_rows_that_are_not_whole_are_computed_again(half, trained, whole, damage):
    """As after a loss of power, or a kill in the middle of a batch."""
    images, out = half
    first = (out / ROWS).read_bytes()
    (out / ROWS).write_bytes((first if damage else first[:32]) + damage)
    assert run(trained, images, "--out", out) == 0
    made = files(out)
    assert set(made) == set(whole)
    assert made["embeddings.npy"] == whole["embeddings.npy"]
    assert made["labels.csv"] == whole["labels.csv"]


def test_only_whole_batches_of_unit_or_infinite_rows_count(tmp_path):
    work = {"a": 1}
    assert begin_or_continue(tmp_path, work, 2, 2) == 0
    rows = np.array([[1, 0], [np.inf, np.inf], [0.6, 0.8], [0, 1], [0, 0], [1, 0]], np.float32)
    rows.tofile(tmp_path / ROWS)
    assert begin_or_continue(tmp_path, work, 2, 2) == 4
    assert read_rows(tmp_path, 2).tolist() == rows[:4].tolist()
    assert begin_or_continue(tmp_path, work, 2, 3) == 3
    with pytest.raises(UsageError, match="a 1 there, 2 now"):
        begin_or_continue(tmp_path, {"a": 2}, 2, 2)


def test_what_was_not_begun_leaves_nothing(folder, trained, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(command, "embedded", fail)
    out = tmp_path / "out"
    assert run(trained, folder, "--out", out) == 1
    said = f"--out {out} cannot be written (No space left on device); free space"
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_full_disk_is_one_sentence_and_keeps_what_is_done(folder, trained, whole, tmp_path,
                                                            capsys):
    """The size that a file may have stands for the size of the disk."""
    out = tmp_path / "out"
    limited = ("import resource, signal, sys\n"
               "from evaluation.embed import command\n"
               "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
               "limit = command.begin_or_continue\n"
               "def begin(*args):\n"
               "    done = limit(*args)\n"
               "    resource.setrlimit(resource.RLIMIT_FSIZE, (160, 160))\n"
               "    return done\n"
               "command.begin_or_continue = begin\n"
               "sys.exit(command.main(sys.argv[1:]))\n")
    argv = [trained, folder, "--out", out, "--device", "cpu"]
    ended = subprocess.run([sys.executable, "-c", limited, *map(str, argv)], cwd=ROOT, text=True,
                           capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == 1, ended.stderr
    said = ended.stderr.strip().splitlines()[-1]
    assert said.startswith(f"evaluation.embed: --out {out} cannot be written (File too large)")
    assert batches_done(out) == 2.5
    assert run(trained, folder, "--out", out) == 0
    assert files(out) == whole


def test_without_out_the_files_lie_beside_the_checkpoint(folder, trained, whole, tmp_path):
    best = tmp_path / "best_e_recall@1.pt"
    shutil.copy(trained, best)
    assert run(best, folder) == 0
    made = files(tmp_path / f"best_e_recall@1-{folder.name}")
    assert made["embeddings.npy"] == whole["embeddings.npy"]
    # never overwritten
    assert run(best, folder) == 2


def test_an_exported_folder_embeds_as_its_checkpoint(folder, trained, whole, tmp_path, capsys):
    model = tmp_path / "model"
    assert export.main([str(trained), "--format", "safetensors", "--out", str(model)]) == 0
    assert run(model, folder) == 0
    made = files(tmp_path / f"model-{folder.name}")
    assert made["embeddings.npy"] == whole["embeddings.npy"]
    assert made["labels.csv"] == whole["labels.csv"]
    assert len(list(csv.DictReader(made["labels.csv"].decode().splitlines()))) == 10
    assert run(folder, folder) == 2
    assert "no model.json" in capsys.readouterr().err
