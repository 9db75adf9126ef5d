"""Numbers that are none, signals, a full GPU and a full disk end a run in one sentence, with nothing lost."""
import errno
import os
import signal

import numpy as np
import pytest
import torch

import main
from criteria.method import LMMetric
from tests.test_main import PLAIN, flags, folder  # noqa: F401  (a fixture)
from training.guard import GRADIENT, FiniteGuard, refuse_infinite, room_for
from training.optimisation import Optimisation
from utilities import checkpoint
from utilities.errors import RunError
from utilities.interruption import Interruption

NAN = float("nan")


def terms(metric, total=1.0):
    return {"metric": torch.tensor(metric), "total": torch.tensor(total)}


def test_the_first_bad_step_is_named_with_its_terms_and_images():
    guard = FiniteGuard(lambda i: f"bird{i}.jpg")
    guard.check()
    guard.watch(1, terms(0.5), torch.tensor([7, 8]))
    guard.check()
    guard.watch(2, terms(0.25, NAN), torch.tensor([4, 5]))
    guard.watch(3, terms(float("inf"), NAN), torch.tensor([1, 2]))
    with pytest.raises(RunError) as caught:
        guard.check()
    assert "step 2 (metric 0.25, total nan), of the images bird4.jpg, bird5.jpg." in str(caught.value)


def test_a_long_batch_is_not_listed_whole():
    guard = FiniteGuard(str)
    guard.watch(1, terms(NAN), torch.arange(100))
    with pytest.raises(RunError, match="0, 1, 2, 3, 4, 5, 6, 7 and 92 more"):
        guard.check()


def test_weights_that_are_not_finite_are_named():
    layer = torch.nn.Linear(2, 2)
    refuse_infinite(3, layer.named_parameters())
    refuse_infinite(3, [])
    layer.bias.data[1] = torch.inf
    with pytest.raises(RunError, match=r"weights are not finite after step 3 \(the first are bias\)"):
        refuse_infinite(3, layer.named_parameters())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interruption().catch_signals() as interruption:
        assert interruption.signal is None
        os.kill(os.getpid(), number)
        assert interruption.signal == number and interruption.stopped("later").code == 128 + number
        assert "; --resume runs/a goes on." in str(interruption.stopped("--resume runs/a goes on"))
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), Interruption().catch_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_full_gpu_names_the_flags_that_help():
    with pytest.raises(RunError, match="The GPU has no memory left for this step: pass a"), room_for("this step", "a"):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("words", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"])
def test_a_full_gpu_of_which_a_library_tells_too(words):
    with pytest.raises(RunError, match="The GPU has no memory left for this step: pass a"), room_for("this step", "a"):
        raise RuntimeError(words)


def test_a_full_machine_too():
    with pytest.raises(RunError, match="The machine has no memory left for this step"), room_for("this step", "a"):
        torch.empty(2 ** 50)
    with pytest.raises(RunError, match="The machine has no memory left for this step"), room_for("this step", "a"):
        np.empty(2 ** 50)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="size of tensor"), room_for("this step", "a"):
        torch.ones(2) + torch.ones(3)


def test_a_gradient_that_is_none_is_told_from_a_loss():
    guard = FiniteGuard(str)
    guard.watch(3, terms(0.5) | {GRADIENT: torch.tensor(NAN)}, torch.tensor([7]))
    with pytest.raises(RunError, match="The gradient is not finite at step 3 .*gradient_norm nan.*images 7"):
        guard.check()


# ---------------------------------------------------------------------------------------------------- in a whole run


def spoil(monkeypatch, step, kind):
    """Make the loss, the gradient, or the memory of this step of a run bad."""
    original = Optimisation.step
    count = []

    def spoiled(self, number):
        count.append(number)
        if len(count) == step and kind == "memory":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        if len(count) == step and kind in ("gradient", "weights"):
            self.parameters[-1].grad[:] = torch.inf
        norm = original(self, number)
        if len(count) == step and kind in ("weights", "update"):
            for p in self.parameters:
                p.data.fill_(torch.nan)
        return norm
    monkeypatch.setattr(Optimisation, "step", spoiled)
    if kind == "loss":
        forward = LMMetric.forward

        def bad_loss(*arguments):
            terms = forward(*arguments)
            if len(count) == step - 1:
                terms["metric"] = terms["metric"] * torch.nan
            return terms
        monkeypatch.setattr(LMMetric, "forward", bad_loss)


@pytest.mark.parametrize("kind,words", [
    ("loss", "The loss is not finite at step 5 (metric nan"),
    ("gradient", "The gradient is not finite at step 5 (metric"), ("memory", "--accumulate N"),
])
def test_a_bad_step_leaves_the_checkpoint_before_it(folder, tmp_path, monkeypatch, capsys, kind, words):  # noqa: F811
    spoil(monkeypatch, 5, kind)
    argv = flags(folder, tmp_path, "--savename", "a", "--log_every", "7", *PLAIN)
    assert main.main(argv) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error and (kind == "memory" or "/class" in error)
    last = checkpoint.load(tmp_path / "image_folder" / "a" / "last.pt")
    assert last["progress"]["step"] == 3                                           # the end of the first epoch
    assert all(value.isfinite().all() for value in last["network"].values())
    monkeypatch.undo()
    assert main.main([*argv, "--resume", "auto"]) == 0                             # and goes on from there


def test_weights_that_an_update_spoils_are_not_saved(folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    spoil(monkeypatch, 6, "update")
    argv = flags(folder, tmp_path, "--savename", "a", "--n_epochs", "3", "--eval_every", "3", *PLAIN)
    assert main.main(argv) == 1
    assert "The weights are not finite after step 6" in capsys.readouterr().err
    last = checkpoint.load(tmp_path / "image_folder" / "a" / "last.pt")
    assert last["progress"]["step"] == 3


def test_weights_of_the_method_are_not_saved_either(folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    original = Optimisation.step

    def spoiled(self, number):
        norm = original(self, number)
        for group in self.optimizer.param_groups:
            if group["name"] == "relation":
                group["params"][0].data.fill_(torch.inf)
        return norm
    monkeypatch.setattr(Optimisation, "step", spoiled)
    argv = flags(folder, tmp_path, "--savename", "a", "--n_epochs", "2", "--steps_per_epoch", "1", "--eval_every", "2")
    assert main.main(argv) == 1
    assert "The weights are not finite after step 1 (the first are relation." in capsys.readouterr().err


def test_a_bad_step_is_named_also_where_a_policy_draws_by_its_numbers(folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    """The step after it is of a network without numbers, and comes before the host looks."""
    spoil(monkeypatch, 2, "weights")
    assert main.main(flags(folder, tmp_path, "--savename", "a", "--log_every", "3")) == 1
    assert "The gradient is not finite at step 2 (metric" in capsys.readouterr().err


@pytest.mark.parametrize("where,words", [
    ("training.bookkeeping.policy_record", "for this step: pass --accumulate N"),
    ("training.results.embed", "for the evaluation: pass a smaller --bs"),
    ("training.results.nearest", "for the evaluation: pass a smaller --bs"),
])
def test_no_room_beside_a_step_is_one_sentence(folder, tmp_path, monkeypatch, capsys, where, words):  # noqa: F811
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nIn many lines.")
    monkeypatch.setattr(where, full)
    assert main.main(flags(folder, tmp_path, "--n_epochs", "1", "--figures")) == 1
    assert f"The GPU has no memory left {words}" in capsys.readouterr().err


def fill(monkeypatch, name, after):
    """From the write number `after` of a file of this name on, the disk takes no more than a kilobyte of it."""
    whole, count = open, []

    def limited(path, mode="r", *arguments, **more):
        file = whole(path, mode, *arguments, **more)
        if "w" in mode and str(path).endswith(f"{name}.part"):
            count.append(1)
            if len(count) >= after:
                file.write = full
        return file

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("builtins.open", limited)


@pytest.mark.parametrize("name", ["last.pt", "metrics.csv", "options.json"])
def test_a_full_disk_keeps_what_was_there_and_says_so(folder, tmp_path, monkeypatch, capsys, name):  # noqa: F811
    argv = flags(folder, tmp_path, "--savename", "a", *PLAIN)
    with monkeypatch.context() as patch:
        fill(patch, name, after=2 if name != "options.json" else 1)
        assert main.main(argv) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left on device" in error and name in error and "Free space" in error
    left = tmp_path / "image_folder" / "a"
    assert not list(left.glob("*.part"))
    if name != "options.json":
        assert checkpoint.load(left / "last.pt")["progress"]["step"] == 0
        assert (left / "metrics.csv").read_text().count("\n") == (2 if name == "metrics.csv" else 3)
    assert main.main([*argv, "--resume", "auto"]) == 0


def test_a_full_disk_while_pictures_are_drawn_is_one_sentence(folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    assert main.main(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0", "--figures", *PLAIN)) == 1
    assert "is full (No space left on device)" in capsys.readouterr().err
