"""A run that is killed at any step and continued ends as the uninterrupted one, bit for bit."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import main
from benchmarks.kill_and_resume import unmeasured
from tests.test_main import PLAIN, flags, folder  # noqa: F401  (a fixture)
from tests.training.methods import same
from training import bookkeeping
from utilities import checkpoint
from utilities.logger import RunFolder
from utilities.table import read_rows

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """What stops a run in these tests without a chance to clean up."""


def kill_after(monkeypatch, step, moment="save_between_epochs"):
    """Kill the next run at this step, before or after its checkpoint is written."""
    original = getattr(main, moment)

    def dying(run):
        if run.progress.step == step and moment == "adapt_miner":
            raise Killed
        original(run)
        if run.progress.step == step:
            raise Killed
    monkeypatch.setattr(main, moment, dying)


def compare(out, one, other):
    """Everything but names and times of two runs."""
    first, second = (out / "image_folder" / name for name in (one, other))
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
    steps = [[unmeasured(row) for row in read_rows(path / "steps.csv")] for path in (first, second)]
    assert steps[0] == steps[1] and steps[0]
    states = [checkpoint.load(path / "last.pt") for path in (first, second)]
    for state in states:
        for part in ("options",):
            del state[part]
        for time_spent in ("seconds", "training_seconds"):
            del state["progress"][time_spent]
    same(*states)
    results = [json.loads((path / "result.json").read_text()) for path in (first, second)]
    for name in ("final", "untrained", "best", "policy", "steps"):
        assert results[0][name] == results[1][name]
    assert set(os.listdir(first)) == set(os.listdir(second))


CASES = {
    "default": ["--figures", "--map_images", "0"], "cross-batch memory": ["--xbm_size", "20", "--xbm_start", "2"],
    "mined": ["--loss", "margin", "--xbm_size", "20", "--xbm_start", "2"],
    "published": ["--recipe", "paper", "--relation_hidden", "0", "--memory_channels", "8", "--memory_steps", "2"],
    "validated": ["--loss", "margin", "--batch_mining", "parametric", "--bs", "8", "--miner_parametric_every", "2",
                  "--use_tv_split", "--tv_split_perc", "0.5", *PLAIN],
    "anchors": ["--policy_granularity", "anchor", "--ema", "0.9", "--scheduler", "cosine"],
    "stored": ["--data_sampler", "disthist_batchmatch", "--data_mb_mom", "0.5", "--bs", "8", *PLAIN],
    "workers": ["--kernels", "2", *PLAIN], "half precision": ["--amp", "fp16", "--accumulate", "6"],
    "warm-up and decay": ["--warmup_epochs", "1", "--tau", "1", "--gamma", "0.1", "--optim", "sgd", *PLAIN],
}


# one after the other they take minutes
USUAL = ("default", "published", "mined")


@pytest.mark.parametrize("case", [*USUAL, *(pytest.param(name, marks=pytest.mark.slow) for name in CASES
                                            if name not in USUAL)])
def test_killed_twice_and_continued(folder, tmp_path, monkeypatch, case):  # noqa: F811
    argv = flags(folder, tmp_path, "--n_epochs", "2", *CASES[case])
    assert main.main([*argv, "--savename", "whole"]) == 0
    for step, moment, minutes in ((2, "save_between_epochs", "0"), (4, "adapt_miner", "0"), (6, "adapt_miner", "100")):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_after(patch, step, moment)
            main.main([*argv, "--savename", "cut", "--resume", "auto", "--checkpoint_minutes", minutes])
    assert main.main([*argv, "--savename", "cut", "--resume", "auto"]) == 0
    compare(tmp_path, "whole", "cut")


def test_killed_between_the_files_of_an_epoch(folder, tmp_path, monkeypatch):  # noqa: F811
    argv = flags(folder, tmp_path, "--n_epochs", "2", *PLAIN)
    assert main.main([*argv, "--savename", "whole"]) == 0
    save, count = checkpoint.save, 0

    def dying(path, state):
        nonlocal count
        count += 1
        if count % 2 == 0:
            raise Killed
        save(path, state)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", dying)
        for _ in range(3):
            with pytest.raises(Killed):
                main.main([*argv, "--savename", "cut", "--resume", "auto"])
    assert main.main([*argv, "--savename", "cut", "--resume", "auto"]) == 0
    compare(tmp_path, "whole", "cut")


def test_a_finished_run_goes_on_when_it_is_given_more_epochs(folder, tmp_path, capsys):  # noqa: F811
    argv = flags(folder, tmp_path, "--scheduler", "none", *PLAIN)
    assert main.main([*argv, "--savename", "whole", "--n_epochs", "3"]) == 0
    assert main.main([*argv, "--savename", "cut", "--n_epochs", "1"]) == 0
    run = tmp_path / "image_folder" / "cut"
    assert main.main(["--resume", str(run), "--n_epochs", "3", "--source_path", str(folder), "--device", "cpu",
                      "--kernels", "0"]) == 0
    assert "Continuing at step 3" in capsys.readouterr().out
    compare(tmp_path, "whole", "cut")


def test_another_device_goes_on_with_draws_of_its_own(folder, tmp_path):  # noqa: F811
    argv = flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", "--bs", "8")
    assert main.main(argv) == 0
    path = tmp_path / "image_folder" / "a" / "last.pt"
    state = checkpoint.load(path)
    # what generators of a GPU save
    drawn = torch.tensor([1, 0]).view(torch.uint8)
    for part in ("relation", "policy"):
        state["method"][f"{part}._extra_state"] |= {"state": drawn, "device": "cuda"}
    state["random"]["cuda"] = drawn
    checkpoint.save(path, state)
    assert main.main([*argv, "--resume", "auto", "--n_epochs", "2"]) == 0
    assert checkpoint.load(path)["progress"]["epoch"] == 2


@pytest.mark.parametrize("more", [["--savename", "b"], ["--save_path", "elsewhere"]])
def test_a_run_goes_on_where_it_is(folder, tmp_path, capsys, more):  # noqa: F811
    assert main.main(flags(folder, tmp_path, *PLAIN, "--n_epochs", "0", "--savename", "a")) == 0
    run = tmp_path / "image_folder" / "a"
    assert main.main(["--resume", str(run), "--savename", "a", "--save_path", str(tmp_path)]) == 0
    (tmp_path / "link").symlink_to(run)
    for name in ("a", "link"):
        assert main.main(["--resume", str(tmp_path / "link"), "--savename", name]) == 0
    capsys.readouterr()
    assert main.main(["--resume", str(run), *more]) == 2
    assert f"{' '.join(more)}: --resume {run} goes on in {run}; leave it out" in capsys.readouterr().err


PARAMETRIC = ["--loss", "margin", "--batch_mining", "parametric", "--bs", "8", "--use_tv_split",
              "--tv_split_perc", "0.5"]


@pytest.mark.parametrize("more", [["--scheduler", "cosine"], [*PARAMETRIC, "--scheduler", "none"]])
def test_epochs_are_not_changed_where_steps_depend_on_them(folder, tmp_path, capsys, more):  # noqa: F811
    assert main.main(flags(folder, tmp_path, *PLAIN, "--n_epochs", "0", "--savename", "a", *more)) == 0
    assert main.main(["--resume", str(tmp_path / "image_folder" / "a"), "--n_epochs", "1"]) == 2
    assert "--n_epochs 1 (the run has 0)" in capsys.readouterr().err


def test_best_weights_of_a_future_that_is_given_up_are_removed(folder, tmp_path, capsys):  # noqa: F811
    """They would contradict result.json, which has the best of what came since."""
    metrics = ["--evaluation_metrics", "e_recall@1", "nmi", "--storage_metrics", "e_recall@1", "nmi"]
    argv = flags(folder, tmp_path, "--savename", "a", "--scheduler", "none", *PLAIN, *metrics)
    assert main.main([*argv, "--n_epochs", "1"]) == 0
    run = tmp_path / "image_folder" / "a"
    early = checkpoint.load(run / "last.pt")
    assert main.main(["--resume", str(run), "--n_epochs", "2"]) == 0
    late = checkpoint.load(run / "last.pt")
    checkpoint.save(run / "best_nmi.pt", late)
    checkpoint.save(run / "last.pt", early | {"best": early["best"] | {"nmi": early["best"]["e_recall@1"]}})
    capsys.readouterr()
    assert main.main(["--resume", str(run), "--n_epochs", "1"]) == 0
    assert "best_nmi.pt is of an epoch after" in capsys.readouterr().out
    assert (run / "best_e_recall@1.pt").is_file() and not (run / "best_nmi.pt").exists()


def test_a_run_that_goes_back_to_its_best_and_is_killed_continues_there(folder, tmp_path, monkeypatch):  # noqa: F811
    """Its last checkpoint would call it finished, without the records and best weights that were given up."""
    argv = flags(folder, tmp_path, "--savename", "a", "--scheduler", "none", *PLAIN)
    assert main.main([*argv, "--n_epochs", "1"]) == 0
    run = tmp_path / "image_folder" / "a"
    early = checkpoint.load(run / "last.pt")
    assert main.main(["--resume", str(run), "--n_epochs", "2"]) == 0
    checkpoint.save(run / "best_e_recall@1.pt", early)

    def killed(run, bar):
        raise KeyboardInterrupt
    monkeypatch.setattr(main, "train", killed)
    whole = {name: (run / name).read_bytes() for name in ("last.pt", "steps.csv")}
    broken = early | {"optimisation": {}}
    checkpoint.save(run / "broken.pt", broken)
    assert main.main(["--resume", str(run / "broken.pt")]) == 1
    assert whole == {name: (run / name).read_bytes() for name in whole}
    main.main(["--resume", str(run / "best_e_recall@1.pt")])
    assert checkpoint.load(run / "last.pt")["progress"]["epoch"] == 1
    assert (run / "steps.csv").read_bytes() != whole["steps.csv"]


def test_a_run_whose_policy_had_another_name_goes_on(folder, tmp_path):  # noqa: F811
    """In checkpoints from before criteria/method/ the policy is called weighting."""
    argv = flags(folder, tmp_path, "--scheduler", "none")
    assert main.main([*argv, "--savename", "whole", "--n_epochs", "2"]) == 0
    assert main.main([*argv, "--savename", "cut", "--n_epochs", "1"]) == 0
    last = tmp_path / "image_folder" / "cut" / "last.pt"
    state = checkpoint.load(last)
    method = {name.replace("policy.", "weighting."): value for name, value in state["method"].items()}
    assert method.keys() != state["method"].keys()
    checkpoint.save(last, state | {"method": method})
    assert main.main([*argv, "--savename", "cut", "--n_epochs", "2", "--resume", "auto"]) == 0
    compare(tmp_path, "whole", "cut")


def test_a_run_from_before_the_proxies_goes_on_without_them(folder, tmp_path, capsys):  # noqa: F811
    argv = flags(folder, tmp_path, "--scheduler", "none")
    assert main.main([*argv, "--savename", "whole", "--n_epochs", "2"]) == 0
    assert main.main([*argv, "--savename", "cut", "--n_epochs", "1"]) == 0
    run = tmp_path / "image_folder" / "cut"
    state = checkpoint.load(run / "last.pt")
    state["options"] = {flag: value for flag, value in state["options"].items() if not flag.startswith("proxies_")}
    checkpoint.save(run / "last.pt", state)
    assert main.main([*argv, "--savename", "cut", "--n_epochs", "2", "--resume", "auto", "--proxies_weight", "1"]) == 2
    assert "--proxies_weight 1.0 (the run has no such flag)" in capsys.readouterr().err
    assert main.main([*argv, "--savename", "cut", "--n_epochs", "2", "--resume", "auto"]) == 0
    compare(tmp_path, "whole", "cut")


def test_flags_that_differ_are_listed_and_refused(folder, tmp_path, capsys):  # noqa: F811
    argv = flags(folder, tmp_path, "--n_epochs", "0", "--savename", "a", *PLAIN)
    assert main.main(argv) == 0
    last = tmp_path / "image_folder" / "a" / "last.pt"
    before = last.read_bytes()
    assert main.main([*argv, "--resume", "auto", "--lr", "0.5", "--seed", "7"]) == 2
    error = capsys.readouterr().err
    assert "--lr 0.5 (the run has 0.004)" in error and "--seed 7 (the run has 1)" in error and "--n_epochs" not in error
    for cache in ("none", "ram"):
        assert main.main([*argv, "--resume", "auto", "--cache", cache]) == (2 if cache == "none" else 0)
    assert "--cache none (the run has ram)" in capsys.readouterr().err
    assert last.read_bytes() == before
    assert main.main([*argv, "--resume", str(tmp_path)]) == 2 and "no last.pt" in capsys.readouterr().err
    state = checkpoint.load(last)
    del state["progress"]
    torch.save(state, last)
    assert main.main([*argv, "--resume", "auto"]) == 2 and "--checkpoint" in capsys.readouterr().err


def test_a_checkpoint_beside_the_records_of_another_run_is_refused(folder, tmp_path, capsys):  # noqa: F811
    for name, margin in (("a", "0.2"), ("b", "0.3")):
        argv = ["--savename", name, "--n_epochs", "1", "--loss", "triplet", "--loss_triplet_margin", margin]
        assert main.main(flags(folder, tmp_path, *argv, *PLAIN)) == 0
    runs = tmp_path / "image_folder"
    backup = tmp_path / "backup"
    backup.mkdir()
    for name in "ab":
        (backup / f"{name}.pt").write_bytes((runs / name / "last.pt").read_bytes())
    assert main.main(["--resume", str(backup / "a.pt"), "--n_epochs", "2", "--no-figures"]) == 0
    before = {path: path.read_bytes() for path in backup.iterdir() if path.is_file()}
    capsys.readouterr()
    assert main.main(["--resume", str(backup / "b.pt"), "--n_epochs", "2"]) == 2
    assert "(--loss_triplet_margin 0.2, and 0.3 in the checkpoint)" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in backup.iterdir() if path.is_file()} == before
    assert main.main(["--resume", str(backup / "a.pt"), "--n_epochs", "3", "--no-figures"]) == 0


def test_two_runs_never_write_to_one_folder(tmp_path, folder, capsys):  # noqa: F811
    holder = RunFolder.new(str(tmp_path), "image_folder", "a")
    assert main.main([*flags(folder, tmp_path, *PLAIN), "--savename", "a", "--resume", "auto"]) == 1
    assert "another process is training in this folder" in capsys.readouterr().err
    assert os.listdir(holder.path) == []


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_with_a_checkpoint_of_that_step(folder, tmp_path, number, code):  # noqa: F811
    """Sent to all processes of the run, those that load images too, as a terminal and schedulers do."""
    argv = flags(folder, tmp_path, "--n_epochs", "100000", "--eval_every", "100000", *PLAIN)
    command = [sys.executable, str(ROOT / "main.py"), *argv, "--savename", "a", "--kernels", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    last = tmp_path / "image_folder" / "a" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)                                                                  # until images are loaded
    os.killpg(process.pid, number)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == code and "--resume" in error.strip().splitlines()[-1]
    state = checkpoint.load(last)
    assert state["progress"]["step"] > 0
    assert state["optimisation"]["optimizer"]["state"][0]["step"] == state["progress"]["step"]


def test_a_signal_during_an_evaluation_ends_with_the_checkpoint_after_it(folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    argv = flags(folder, tmp_path, *PLAIN)
    assert main.main([*argv, "--savename", "whole"]) == 0
    evaluate_run = bookkeeping.evaluate_run

    def interrupted(run):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate_run(run)
    monkeypatch.setattr(bookkeeping, "evaluate_run", interrupted)
    for step in (0, 3, 6):
        assert main.main([*argv, "--savename", "cut", "--resume", "auto"]) == 143
        assert checkpoint.load(tmp_path / "image_folder" / "cut" / "last.pt")["progress"]["step"] == step
    assert "Stopped by SIGTERM" in capsys.readouterr().err
    assert main.main([*argv, "--savename", "cut", "--resume", "auto"]) == 0        # nothing is left but the pictures
    compare(tmp_path, "whole", "cut")


def test_the_length_of_a_cosine_schedule_is_part_of_the_run(folder, tmp_path, capsys):  # noqa: F811
    argv = flags(folder, tmp_path, "--savename", "a", "--scheduler", "cosine", *PLAIN)
    assert main.main([*argv, "--n_epochs", "1"]) == 0
    assert main.main([*argv, "--n_epochs", "2", "--resume", "auto"]) == 2
    assert "--n_epochs 2 (the run has 1)" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["default", *(pytest.param(name, marks=pytest.mark.slow)
                                              for name in ("published", "mined", "cross-batch memory"))])
def test_the_visible_step_and_the_one_for_large_batches_are_equal_bit_for_bit(folder, tmp_path, case):  # noqa: F811
    """--accumulate of a whole batch takes the other path of the loop, in one chunk."""
    argv = flags(folder, tmp_path, "--n_epochs", "2", *CASES[case])
    assert main.main([*argv, "--savename", "visible"]) == 0
    assert main.main([*argv, "--savename", "large", "--accumulate", "1000"]) == 0
    compare(tmp_path, "visible", "large")
