"""Errors name flags for a command, and for a program the arguments of the classes that it uses."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from batchminer import DistanceWeighted
from criteria import CRITERIA, Margin, PairWeights, SmoothAP, Triplet
from criteria.method import GRU, CrossBatchMemory, Factor, LMMetric, MemoryTarget, Policy, PolicyTraining
from datasets.samplers import ClassRandom
from utilities import errors
from utilities.arguments import RENAMED, argument_of, in_arguments
from utilities.errors import RunError, UsageError, naming_flags

ROOT = Path(__file__).parent.parent.parent
# rooms whose classes and functions a program calls, and what in them belongs to commands
ROOMS = ("criteria", "batchminer", "flows", "datasets/samplers", "evaluation/metrics", "evaluation/ranking")


@pytest.fixture(autouse=True)
def in_a_program(errors_as_a_command_shows_them, monkeypatch):
    """As where no command runs."""
    monkeypatch.setattr(errors, "_in_command", False)


def flags_of_errors() -> set[str]:
    """Every flag that a string of these rooms names, but those in documentation."""
    flags = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise):
                flags |= set(re.findall(r"--([a-z]\w*\w)", ast.unparse(node)))
    return flags


def arguments_of_the_rooms() -> set[str]:
    """The names of arguments and annotated fields in these rooms and in the memory."""
    names = set()
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    for path in (*files, ROOT / "architectures" / "memory.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return names


# names of registries: an error of `select` names what was asked for
OF_SELECT = {"memory", "relation"}


def test_every_flag_of_an_error_stands_for_an_argument():
    flags = flags_of_errors()
    assert len(flags) > 15
    known = arguments_of_the_rooms() | OF_SELECT | {"xbm", "pair_weighting"}
    phrases = {"policy_granularity", "xbm_size"}
    assert {flag for flag in flags - phrases if argument_of(flag) not in known} == set()


@pytest.mark.parametrize(("flag", "argument"), [
    ("loss_adversarial_separation_parts", "parts"),
    ("loss_npair_l2", "l2"),
    ("miner_random_distance_lower_cutoff", "lower_cutoff"),
    ("policy_samples", "samples"),
    ("data_batchmatch_bigbs", "batchmatch_bigbs"),
    ("search_backend", "backend"),
    ("bs", "bs"),
    *RENAMED.items(),
])
def test_an_argument_has_the_name_of_its_flag_without_the_prefix(flag, argument):
    assert argument_of(flag) == argument


@pytest.mark.parametrize(("make", "text"), [
    (lambda: SmoothAP(tau=-1), "tau: -1 is not a number above 0."),
    (lambda: CRITERIA["recallatk"](ks=(0,)), "ks: 0 is not a whole number of at least 1"),
    (lambda: Triplet(soft_margin=True, margin=0.3), "soft_margin has no margin"),
    (lambda: Margin(4, beta_constant=True, nu=0.5), "nu=0.5 regularises learned boundaries: drop beta_constant."),
    (lambda: DistanceWeighted(lower_cutoff=2.0), "lower_cutoff=2.0 must be below upper_cutoff=1.4."),
    (lambda: ClassRandom([0, 0, 1, 1], bs=3), "bs=3 is not a multiple of samples_per_class=2;"),
    (lambda: GRU(8, 4, hidden=6, share_projection=True), "share_projection needs states as wide as the feature"),
    (lambda: Policy(0, Factor(), input="statistics"), 'weighting=Factor() with granularity="batch" has no effect'),
    (lambda: CrossBatchMemory(CRITERIA["arcface"](4, 4), 4, 8), "cannot serve it: pass xbm=None."),
    (lambda: MemoryTarget("neighbours"), "name neighbours looks for them in the cross-batch memory: pass xbm, a"),
])
def test_errors_of_classes_name_their_arguments(make, text):
    with pytest.raises(UsageError) as caught:
        make()
    assert text in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_policy_and_its_training_that_do_not_fit_are_refused_by_their_arguments():
    policy = Policy(0, Factor(), "anchor", input="statistics")
    with pytest.raises(UsageError, match="^baseline leave_one_out needs at least samples=2.$"):
        LMMetric(SmoothAP(), policy=policy, pair_weighting="learned", training=PolicyTraining(samples=1))


def test_a_command_names_flags():
    error = UsageError("--bs 3 is not a multiple of --samples_per_class 2.")
    with naming_flags():
        assert str(error) == "--bs 3 is not a multiple of --samples_per_class 2."
    assert str(error) == "bs=3 is not a multiple of samples_per_class=2."
    assert str(RunError("no dashes -- here, a-b--c")) == "no dashes -- here, a-b--c"


def test_answer_names_flags(capsys):
    def command():
        raise UsageError("--policy_samples 0 is too few.")
    assert errors.answer("program", command) == 2
    assert capsys.readouterr().err == "program: --policy_samples 0 is too few.\n"
    assert in_arguments("--policy_samples 0 is too few.") == "samples=0 is too few."


def test_main_names_flags():
    done = subprocess.run([sys.executable, "main.py", "--loss", "triplet", "--batch_mining", "none", "--device", "cpu"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--loss triplet needs triplets" in done.stderr


def test_the_shapes_of_a_batch_are_refused():
    x = torch.randn(4, 3)
    for label in (torch.zeros(4, 1), torch.zeros(3)):
        with pytest.raises(UsageError, match="embeddings \\(B, D\\) with labels \\(B,\\), not"):
            SmoothAP()(x, label)
    with pytest.raises(UsageError, match="not Tensor \\(4,\\)"):
        SmoothAP()(x[:, 0], torch.zeros(4))
    weight = PairWeights(torch.ones(4, 4), torch.ones(4, 4))
    with pytest.raises(UsageError, match='pass weighting=Factor\\(\\), granularity="anchor"'):
        CRITERIA["arcface"](4, 3)(x, torch.tensor([0, 1, 2, 3]), weight=weight)


def test_a_command_of_the_shell_stays():
    text = "`python -m datasets.prepare cub200 --source_path X` fetches it; or pass --source_path."
    assert in_arguments(text) == text.replace("pass --source_path", "pass source_path")
