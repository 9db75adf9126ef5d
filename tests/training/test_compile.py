"""A compiled backbone trains alike, under the same names, and is nowhere to be seen in evaluation and checkpoints."""
import json

import pytest
import torch

import architectures
import main
from parameters import get_options
from tests.test_main import PLAIN, flags, folder  # noqa: F401  (a fixture)
from tests.training.methods import batch, build, gradients
from tests.training.test_resume import Killed, compare, kill_after
from training.large_batch import LargeBatchStep
from utilities import checkpoint


def both(**settings):
    """Network, method and miner twice; the first with a compiled backbone."""
    torch._dynamo.reset()
    compiled, plain = build("gpw", **settings), build("gpw", **settings)
    compiled[0].compile_backbone()
    return compiled, plain


@pytest.fixture
def calls(monkeypatch):
    """How often a compiled function is called (compiled to itself, which takes no time)."""
    count, compile_ = [], torch.compile

    def counting(function, **how):
        inner = compile_(function, backend="eager", **how)

        def call(*arguments):
            count.append(1)
            return inner(*arguments)
        return call
    monkeypatch.setattr(torch, "compile", counting)
    return count


def test_names_in_the_state_stay(calls):
    compiled, plain = both()
    assert list(compiled[0].state_dict()) == list(plain[0].state_dict())
    assert [name for name, _ in compiled[0].named_modules()] == [name for name, _ in plain[0].named_modules()]


@pytest.mark.parametrize("chunk", [0, 5])
@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_are_those_of_the_plain_backbone(calls, chunk, frozen):
    compiled, plain = both(frozen=frozen)
    for parts in (compiled, plain):
        LargeBatchStep(*parts, chunk=chunk)(batch())
    found, wanted = gradients(*compiled[:2]), gradients(*plain[:2])
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])
    for one, other in zip(compiled[0].buffers(), plain[0].buffers()):
        torch.testing.assert_close(one, other)
    assert len(calls) == (8 if chunk else 1)


def test_evaluation_does_not_use_it(calls):
    network = both()[0][0]
    network.embed(batch().image)
    network.eval()(batch().image)
    assert not calls
    network.train()(batch().image)
    network.hold_backbone(True)                                                    # still training, of the head
    network(batch().image)
    assert len(calls) == 2


def test_evaluating_with_it_is_refused(capsys):
    with pytest.raises(SystemExit):
        get_options(["--evaluate_only", "--checkpoint", "x", "--compile"])
    assert "--compile has no effect with --evaluate_only" in capsys.readouterr().err


def test_a_missing_compiler_is_said_before_the_run_begins(folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    def none(*_, **__):
        raise RuntimeError("No working C++ compiler found\nin three lines\nof text")
    monkeypatch.setattr(torch, "compile", none)
    assert main.main(flags(folder, tmp_path, "--compile", *PLAIN)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--compile finds no compiler for cpu (No working C++ compiler found in three lines of text)" in error
    assert not (tmp_path / "image_folder").exists()


@pytest.mark.slow
def test_a_compiled_run_resumes_bit_for_bit_and_is_evaluated_without(folder, tmp_path, monkeypatch):  # noqa: F811
    """By the real compiler; memory, averages and chunks on."""
    argv = flags(folder, tmp_path, "--n_epochs", "2", "--compile", "--ema", "0.9", "--accumulate",
                 "6", "--warmup_epochs", "1")
    torch._dynamo.reset()
    assert main.main([*argv, "--savename", "whole"]) == 0
    for step, moment in ((2, "save_between_epochs"), (5, "adapt_miner")):
        torch._dynamo.reset()                                                      # as in a process of its own
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_after(patch, step, moment)
            main.main([*argv, "--savename", "cut", "--resume", "auto", "--checkpoint_minutes", "0"])
    torch._dynamo.reset()
    assert main.main([*argv, "--savename", "cut", "--resume", "auto"]) == 0
    compare(tmp_path, "whole", "cut")
    last = tmp_path / "image_folder" / "whole" / "last.pt"
    state = checkpoint.load(last)
    assert not any("_orig_mod" in name for name in [*state["network"], *state["optimisation"]["average"]["own"]])
    evaluating = ["--evaluate_only", "--checkpoint", str(last), "--device", "cpu", "--json", str(tmp_path / "m")]
    assert main.main(evaluating) == 0
    assert json.loads((tmp_path / "m").read_text()) == state["metrics"]
    assert list(architectures.restore(last)[0].state_dict()) == list(state["network"])
