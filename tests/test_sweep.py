"""examples/sweep.py: trials on validation classes, their score, and the command of the best."""
import json
import shlex
import types
from pathlib import Path

import pytest

from examples import sweep
from parameters import get_options
from utilities.errors import RunError, UsageError


class Trial:
    """A trial of Optuna, as far as the sweep uses it."""

    number = 3

    def __init__(self):
        self.attributes = {}

    def suggest_float(self, name, low, high, log=False):
        return (low * high) ** 0.5

    def suggest_categorical(self, name, values):
        return values[1]

    def set_user_attr(self, name, value):
        self.attributes[name] = value


def finished(monkeypatch, code=0, best=0.25):
    """Runs that end at once with this result; returns their commands."""
    commands = []

    def run(command, check):
        opt = get_options(command[2:])
        commands.append(opt)
        folder = Path(opt.save_path, opt.dataset, opt.savename)
        folder.mkdir(parents=True)
        result = {"best": {"e_recall@1": {"value": best, "chosen_on": "val"}}}
        (folder / "result.json").write_text(json.dumps(result))
        return types.SimpleNamespace(returncode=code)
    monkeypatch.setattr(sweep.subprocess, "run", run)
    return commands


def test_a_trial_is_a_run_on_validation_classes_and_scores_their_best(monkeypatch, tmp_path):
    commands = finished(monkeypatch)
    opt, fixed = sweep.build_parser().parse_known_args(["--study", "s", "--bs", "8", "--save_path", str(tmp_path)])
    trial = Trial()
    assert sweep.objective(opt, fixed)(trial) == 0.25
    made = commands[0]
    assert made.use_tv_split and (made.bs, made.savename, made.embed_dim) == (8, "s-3", 128)
    assert made.lr == pytest.approx((1e-5 * 1e-2) ** 0.5, rel=0.01)
    # the command of the best has the same flags
    assert get_options(sweep.words(trial.attributes["flags"])).lr == made.lr


def test_a_run_that_fails_is_a_failed_trial(monkeypatch, tmp_path):
    finished(monkeypatch, code=1)
    opt, fixed = sweep.build_parser().parse_known_args(["--save_path", str(tmp_path)])
    with pytest.raises(RunError, match="trial 3 has failed"):
        sweep.objective(opt, fixed)(Trial())


def test_a_flag_that_is_tuned_is_not_taken_as_well(monkeypatch, tmp_path):
    finished(monkeypatch)
    opt, fixed = sweep.build_parser().parse_known_args(["--embed_dim", "32", "--save_path", str(tmp_path)])
    with pytest.raises(UsageError, match="--embed_dim is tuned by suggest"):
        sweep.objective(opt, fixed)(Trial())


@pytest.mark.parametrize("argv,words", [
    (["--savename", "x"], "--savename is for the sweep to say"),
    (["--metric", "mrr"], "--metric mrr is not among --storage_metrics"),
])
def test_what_a_sweep_cannot_take_is_refused(capsys, argv, words):
    assert sweep.main(argv) == 2
    assert words in capsys.readouterr().err


def test_a_study_prints_the_command_of_its_best(monkeypatch, tmp_path, capsys):
    pytest.importorskip("optuna", reason="needs optuna: pip install optuna")
    finished(monkeypatch)
    argv = ["--storage", str(tmp_path / "s.db"), "--trials", "2", "--save_path", str(tmp_path), "--loss", "margin"]
    # the second call finds the study complete
    for _ in range(2):
        assert sweep.main(argv) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    opt = get_options(shlex.split(line)[2:])
    assert opt.loss == "margin" and not opt.use_tv_split
    assert len(list((tmp_path / "glyphs").iterdir())) == 2


@pytest.mark.parametrize("metric,best", [("e_recall@1", 0.9), ("fnmr@0.1", 0.2)])
def test_the_best_trial_is_that_of_the_metric(monkeypatch, tmp_path, capsys, metric, best):
    pytest.importorskip("optuna", reason="needs optuna: pip install optuna")
    finished(monkeypatch)
    values = iter([0.5, 0.2, 0.9])
    monkeypatch.setattr(sweep, "score", lambda folder, name: next(values))
    argv = ["--storage", str(tmp_path / "s.db"), "--trials", "3", "--save_path", str(tmp_path), "--metric", metric]
    assert sweep.main([*argv, "--evaluation_metrics", metric, "--storage_metrics", metric]) == 0
    assert f"val_{metric} {best:.4f}" in capsys.readouterr().out
