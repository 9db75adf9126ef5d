"""Checkpoints, run folders, random streams and registries."""

import csv
import json
import os
import pickle
import random
import subprocess

import numpy as np
import pytest
import torch

from evaluation.run_files import table_rows
from utilities import checkpoint
from utilities.errors import RunError, UsageError
from utilities.logger import RunFolder, has_uncommitted_changes, provenance, write_json
from utilities.registry import accepted, lookup
from utilities.seed import RandomStream, preserved_randomness, seed_everything


def test_checkpoint_round_trip_leaves_no_temporary_file(tmp_path):
    state = {"network": {"w": torch.randn(3)}, "options": {"arch": "convnet"}, "epoch": 3}
    checkpoint.save(tmp_path / "last.pt", state)
    found = checkpoint.load(tmp_path / "last.pt")
    assert torch.equal(found["network"]["w"], state["network"]["w"])
    assert found["epoch"] == 3
    assert os.listdir(tmp_path) == ["last.pt"]


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def test_checkpoint_with_pickled_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"network": Bomb(), "options": {}}, "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "plain.pt"):
        with pytest.raises(RunError, match="not a readable checkpoint"):
            checkpoint.load(name)
    assert not os.path.exists("exploded")


def test_missing_and_foreign_checkpoints(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        checkpoint.load(tmp_path / "none.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(RunError, match="not a checkpoint of main.py"):
        checkpoint.load(tmp_path / "other.pt")


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "last.pt", {"network": {}, "options": {}, "epoch": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match="previous one"):
        checkpoint.save(tmp_path / "last.pt", {"network": {}, "options": {}, "epoch": 2})
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]


def test_checkpoint_of_another_architecture_names_the_flags(tmp_path):
    checkpoint.save(
        tmp_path / "last.pt",
        {
            "network": torch.nn.Linear(3, 2).state_dict(),
            "options": {"arch": "resnet18", "embed_dim": 2},
        },
    )
    with pytest.raises(UsageError, match="--arch resnet18"):
        checkpoint.load_network(
            tmp_path / "last.pt",
            torch.nn.Linear(4, 2),
            dict.fromkeys(checkpoint.DEFINES_NETWORK, 2) | {"arch": "convnet"},
        )


def test_run_folder_is_never_reused(tmp_path):
    names = [RunFolder.new(tmp_path, "glyphs", "a").path.name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]


def test_run_folder_writes_csv_with_all_columns(tmp_path):
    folder = RunFolder.new(tmp_path, "glyphs", "a")
    folder.write_csv("metrics.csv", [{"epoch": 0, "nmi": 0.5}, {"epoch": 1, "loss": 2.0}])
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert rows == [
        {"epoch": "0", "nmi": "0.5", "loss": ""},
        {"epoch": "1", "nmi": "", "loss": "2.0"},
    ]
    write_json(folder / "options.json", provenance({"seed": 1}, "cpu"))
    found = json.loads((folder / "options.json").read_text())
    assert found["flags"] == {"seed": 1}
    assert found["versions"]["torch"]
    assert "commit" in found


def test_run_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--save_path"):
        RunFolder.new(tmp_path / "file", "glyphs", "a")


def test_random_stream_resumes_and_is_independent_of_the_global_state():
    stream = RandomStream(3)
    torch.rand(5, generator=stream.on(torch.device("cpu")))
    state = stream.state_dict()
    expected = torch.rand(5, generator=stream.on(torch.device("cpu")))
    torch.manual_seed(77)
    other = RandomStream(0)
    other.load_state_dict(state)
    assert torch.equal(torch.rand(5, generator=other.on(torch.device("cpu"))), expected)
    fresh = RandomStream(0)
    # saved before the first draw
    fresh.load_state_dict(RandomStream(3).state_dict())
    assert torch.equal(
        torch.rand(2, generator=fresh.on(torch.device("cpu"))),
        torch.rand(2, generator=RandomStream(3).on(torch.device("cpu"))),
    )


def test_preserved_randomness_restores_every_state():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(4)
    expected = draw()
    seed_everything(4)
    with preserved_randomness():
        draw()
    assert draw() == expected


def test_lookup_and_accepted():
    assert lookup({"margin": 1}, "margin", "loss", "--loss") == 1
    with pytest.raises(UsageError, match="Did you mean margin.*margin, gpw"):
        lookup({"margin": 1, "gpw": 2}, "margn", "loss", "--loss")
    assert accepted(RandomStream, {"seed": 1, "other": 2}) == {"seed": 1}


def test_only_the_code_counts_as_uncommitted_changes(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True,
                       capture_output=True)
    git("init")
    (tmp_path / "main.py").write_text("")
    (tmp_path / "criteria").mkdir()
    (tmp_path / "criteria" / "margin.py").write_text("")
    git("add", ".")
    git("commit", "-m", "a")
    for name in ("data/class0/1.png", "data/tool.py", ".venv/lib/x.py", "notes.txt", "criteria/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert not has_uncommitted_changes(tmp_path)
    for name in ("own_losses.py", "criteria/new.py"):
        (tmp_path / name).write_text("")
        assert has_uncommitted_changes(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "criteria" / "margin.py").write_text("1")
    assert has_uncommitted_changes(tmp_path)


def test_names_in_tables_of_a_run_are_no_formulas_and_its_pages_have_them(tmp_path):
    folder = RunFolder.new(tmp_path, "glyphs", "a")
    rows = [{"class": "=HYPERLINK(1)", "nmi": -0.5}, {"class": "b", "nmi": 1}]
    folder.write_csv("per_class.csv", rows)
    text = (folder / "per_class.csv").read_text()
    assert text.splitlines() == ["class,nmi", "'=HYPERLINK(1),-0.5", "b,1"]
    assert [row["class"] for row in table_rows(folder / "per_class.csv")] == ["=HYPERLINK(1)", "b"]
