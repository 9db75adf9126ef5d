"""The counts of benchmarks/structure.py: the arithmetic by hand, and one step of each kind."""
import sys

import pytest

from benchmarks import structure
from training.optimisation import Optimisation


def test_returns_are_calls_into_a_file_that_was_entered_before():
    calls = ["a.py", "a.py", "b.py", "a.py", "c.py", "c.py", "b.py", "b.py"]
    profile = structure.StepProfile(loop=None, files=calls, deepest=["a.py f", "b.py g"])
    assert profile.entered == ["a.py", "b.py", "c.py"]
    assert profile.counts == {"files": 3, "depth": 2, "returns": 2}


def test_a_step_without_calls_counts_nothing():
    profile = structure.StepProfile(loop=None)
    assert profile.counts == {"files": 0, "depth": 0, "returns": 0}


def test_only_python_files_of_the_project_count():
    assert structure.project_file(Optimisation.step.__code__) == "training/optimisation.py"
    assert structure.project_file(pytest.main.__code__) is None
    assert structure.project_file(compile("1", "<string>", "exec")) is None
    assert structure.project_file(structure.measure.__code__) is None


def test_the_stack_ends_at_the_loop_and_keeps_only_the_project():
    def loop():
        return outer()

    def outer():
        return structure.StepProfile(loop=loop.__code__).stack(sys._getframe())

    assert loop() == ["tests/benchmarks/test_structure.py outer"]


@pytest.fixture(scope="module")
def profiles():
    """The profiled step of the plain loss and of the full method."""
    return {name: structure.measure(list(flags)) for name, flags in structure.STEPS.items()}


def test_a_step_goes_from_the_batch_to_the_optimizer(profiles):
    for profile in profiles.values():
        assert "architectures/network.py" in profile.entered
        assert "training/optimisation.py" in profile.entered
        assert profile.entered.index("architectures/network.py") < 5
        left_out = (structure.FETCHING, *structure.LEFT_OUT)
        assert not any(file.startswith(left_out) for file in profile.entered)
        assert not any(file.startswith("evaluation/") for file in profile.entered)


def test_a_plain_loss_touches_its_own_files_and_the_full_method_more(profiles):
    plain = profiles["plain loss"]
    full = profiles["full method"]
    assert {"criteria/margin.py", "batchminer/distance.py"} <= set(plain.entered)
    assert not any(file.startswith("flows/") for file in plain.entered)
    assert {"criteria/smoothap.py", "flows/layers.py"} <= set(full.entered)
    for count, value in plain.counts.items():
        assert 0 < value < full.counts[count]


def test_the_hook_is_gone_afterwards(profiles):
    assert sys.getprofile() is None
    assert Optimisation.step.__code__.co_filename.endswith("optimisation.py")


def test_each_count_stands_beside_its_goal():
    profile = structure.StepProfile(loop=None, files=["a.py", "b.py", "a.py"], deepest=["a.py f"])
    cells = structure.row("plain loss", profile)
    assert cells == {"files": "2 (at most 9)", "depth": "1 (at most 6)", "returns": "1 (at most 40)"}


def test_a_wrong_flag_is_answered_in_the_open(capsys):
    with pytest.raises(SystemExit):
        structure.measure(["--lr", "x"])
    assert "--lr" in capsys.readouterr().err
