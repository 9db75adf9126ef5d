"""TensorBoard and Weights & Biases: the same rows once each, also over resumes, and never in the way of a run."""
import json
import os
import random
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from training.trackers import STATE, Trackers
from utilities.errors import RunError, UsageError

ROOT = Path(__file__).parent.parent.parent


class FakeRun:
    def __init__(self, sent):
        self.sent = sent

    def log(self, values, step):
        self.sent.append((step, values))

    def finish(self):
        self.sent.append("finish")


@pytest.fixture
def wandb(monkeypatch):
    """A module in the place of wandb that notes how it is called."""
    fake = types.ModuleType("wandb")
    fake.sent, fake.inits = [], []

    def init(**arguments):
        fake.inits.append(arguments)
        return FakeRun(fake.sent)
    fake.init, fake.Settings = init, lambda **arguments: arguments
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def online(folder, **more):
    return Trackers(folder, online=True, project="p", group="g", flags={"lr": 0.5}, **more)


def rows(*steps):
    return [{"epoch": 1, "step": step, "loss": step / 8, "name": "x", "empty": None} for step in steps]


def test_rows_go_online_with_the_flags_of_the_run(tmp_path, wandb):
    trackers = online(tmp_path)
    trackers.log("step", rows(10)[0])
    trackers.log("epoch", {"epoch": 1, "step": 10, "nmi": 0.5})
    trackers.close()
    assert wandb.sent == [(10, {"step/epoch": 1, "step/loss": 1.25}), (10, {"epoch/epoch": 1, "epoch/nmi": 0.5}),
                          "finish"]
    asked = wandb.inits[0]
    assert (asked["project"], asked["group"], asked["config"], asked["name"]) == ("p", "g", {"lr": 0.5}, tmp_path.name)
    assert asked["resume"] == "allow" and asked["settings"]["finish_timeout"] > 0 and "key" not in str(asked)


def test_a_resumed_run_has_one_identity_and_logs_no_row_twice(tmp_path, wandb):
    first = online(tmp_path)
    for row in rows(10, 20, 30):
        first.log("step", row)
    first.log("epoch", {"step": 30})
    second = online(tmp_path)                                                      # resumed from step 10
    for row in rows(20, 30, 40):
        second.log("step", row)
    second.log("epoch", {"step": 30})
    second.log("epoch", {"step": 60})
    assert [step for step, values in wandb.sent if "step/loss" in values] == [10, 20, 30, 40]
    assert [step for step, values in wandb.sent if not values] == [30, 60]
    assert wandb.inits[0]["id"] == wandb.inits[1]["id"]
    (tmp_path / "other").mkdir()
    online(tmp_path / "other")
    assert wandb.inits[2]["id"] != wandb.inits[0]["id"]


@pytest.mark.parametrize("content", ["", "[]", '{"logged": 3, "identity": "a"}', '{"identity": "a"}'])
def test_a_damaged_state_is_begun_anew(tmp_path, wandb, content):
    (tmp_path / STATE).write_text(content)
    online(tmp_path).log("step", rows(1)[0])
    assert json.loads((tmp_path / STATE).read_text())["logged"] == {"step": 1}


def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(tmp_path, wandb, monkeypatch, capsys):
    def fail(*_, **__):
        raise ConnectionError("no route to host\nsecond line")
    trackers = online(tmp_path)
    monkeypatch.setattr(FakeRun, "log", fail)
    for row in rows(1, 2):
        trackers.log("step", row)
    trackers.close()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("Warning: --log_online ends here (no route to host second line)")
    trackers = online(tmp_path)
    monkeypatch.setattr(FakeRun, "finish", fail)
    trackers.close()
    assert capsys.readouterr().err.count("Warning") == 1


def test_a_server_that_cannot_be_reached_at_the_start_is_one_sentence(tmp_path, wandb, monkeypatch):
    def fail(**_):
        raise RuntimeError("api_key not configured")
    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(RunError, match="WANDB_MODE=offline") as stop:
        online(tmp_path)
    assert "api_key not configured" in str(stop.value) and "\n" not in str(stop.value)


@pytest.mark.parametrize("name,flag", [("wandb", "online"), ("torch.utils.tensorboard", "tensorboard")])
def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch, name, flag):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="pip install"):
        Trackers(tmp_path, **{flag: True})


def test_without_trackers_nothing_is_imported_or_written(tmp_path):
    code = ("import sys; from pathlib import Path; from training.trackers import Trackers; t = Trackers(Path('.'));"
            "t.log('step', {'step': 1}); t.close(); assert not {'wandb', 'tensorboard'} & set(sys.modules)")
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.iterdir())


def test_tensorboard_holds_every_row_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    for part in (rows(10, 20, 30), rows(20, 30, 40)):                              # killed, and resumed from step 10
        trackers = Trackers(tmp_path, tensorboard=True)
        for row in part:
            trackers.log("step", row)                                              # written at once, without close
    trackers.log("epoch", {"step": 40, "nmi": 0.5})
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("step/loss")] == [
        (step, step / 8) for step in (10, 20, 30, 40)]
    assert set(found.Tags()["scalars"]) == {"step/loss", "step/epoch", "epoch/nmi"}
    trackers.close()


def test_trackers_draw_no_random_numbers(tmp_path, wandb):
    pytest.importorskip("tensorboard")

    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    before = state()
    trackers = online(tmp_path, tensorboard=True)
    trackers.log("step", rows(1)[0])
    trackers.close()
    assert state() == before


OFFLINE = """
import sys; from pathlib import Path
from training.trackers import Trackers
t = Trackers(Path(sys.argv[1]), online=True, project="p", flags={"lr": 0.5, "tau": [1, 2], "gpu": None})
for step in map(int, sys.argv[2:]): t.log("step", {"epoch": 1, "step": step, "loss": 0.5})
t.close()
"""


@pytest.mark.slow
def test_offline_runs_lie_in_the_folder_under_one_identity(tmp_path):
    """The real package, without a network: two parts of a run that `wandb sync` joins."""
    pytest.importorskip("wandb")
    environment = os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": str(ROOT), "WANDB_SILENT": "true"}
    for steps in (["1", "2"], ["2", "3"]):
        run = subprocess.run([sys.executable, "-c", OFFLINE, str(tmp_path), *steps], env=environment, timeout=120,
                             capture_output=True, text=True, cwd=tmp_path)
        assert run.returncode == 0 and "Warning" not in run.stderr, run.stderr
    state = json.loads((tmp_path / STATE).read_text())
    assert state["logged"] == {"step": 3}
    files = list(tmp_path.glob(f"wandb/offline-run-*/run-{state['identity']}.wandb"))
    assert files and all(file.stat().st_size for file in files)
    assert sum(file.read_bytes().count(b"step/loss") > 0 for file in files) == len(files)


@pytest.mark.slow
def test_a_server_that_is_not_there_neither_hangs_nor_fails_silently(tmp_path):
    pytest.importorskip("wandb")
    environment = os.environ | {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT),
                                "WANDB_API_KEY": "x" * 40, "WANDB_INIT_TIMEOUT": "5"}
    run = subprocess.run([sys.executable, "-c", OFFLINE, str(tmp_path), "1"], env=environment, timeout=200,
                         capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode != 0 and "WANDB_MODE=offline" in run.stderr
