"""A checkpoint of any origin: what is not as a run saved it is refused by name, before anything is lost."""
import shutil

import pytest
import torch

import architectures
import main
from parameters import get_options, wrong_flag
from tests.test_main import flags, folder  # noqa: F401  (a fixture)
from utilities import checkpoint
from utilities.errors import RunError, UsageError


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):  # noqa: F811
    """A run of two epochs."""
    out = tmp_path_factory.mktemp("made")
    small = ["--embed_dim", "8", "--bs", "8", "--no-figures", "--relation_hidden", "4", "--memory_hidden", "4"]
    assert main.main(flags(folder, out, "--savename", "a", *small)) == 0
    return out / "image_folder" / "a"


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def change(run, path, value):
    """The run's checkpoint with a value at a path."""
    state = torch.load(run / "last.pt", weights_only=True)
    *outer, last = path.split("/")
    part = state
    for key in outer:
        part = part[int(key) if isinstance(part, list) or key.isdigit() else key]
    part[last] = value
    torch.save(state, run / "last.pt")


@pytest.mark.parametrize("path,value,words", [
    ("progress/step", 10**30, "does not stand at step"), ("progress/step", "8", "progress step is '8'"),
    ("progress/epoch", 0, "not in epoch 0"), ("progress/seconds", float("nan"), "progress seconds is nan"),
    ("sampler/position", -10**12, "does not stand"), ("sampler/seed", 9, "seed 9"),
    ("sampler", None, "sampler is None"),
    ("history", {}, "history is {}"), ("best/e_recall@1", 1, "best e_recall@1 is 1"),
    ("history/0/nmi", "x", "other things than numbers"), ("optimisation/optimizer/param_groups/0/eps", 1.0, "eps"),
    ("optimisation/optimizer/param_groups/0/initial_lr", 1.0, "initial_lr"),
    ("optimisation/optimizer/state/0/exp_avg", torch.zeros(3), "another shape"),
    ("optimisation/optimizer/state/0/exp_avg_sq", "x", "exp_avg_sq"), ("method", {}, "state_dict"),
    ("random/numpy", [1], ""), ("recorder", {"sums": 1, "counts": {}}, "recorder sums is 1"),
])
def test_a_part_of_another_kind_is_refused_and_no_file_is_changed(run, capsys, path, value, words):
    change(run, path, value)
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert main.main(["--resume", str(run), "--n_epochs", "3", "--device", "cpu", "--no-figures"]) == 1
    error = capsys.readouterr().err
    assert "state of training is damaged" in error and words in error and "--debug" not in error
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.name in before} == before


@pytest.mark.parametrize("flag,value", [
    ("input_mean", [1]), ("input_mean", [1, 2, "x"]), ("embed_dim", None), ("embed_dim", "8"), ("embed_dim", 10**12),
    ("memory_couplings", 10**9), ("memory_samples", 0), ("image_size", -1), ("image_size", {}), ("bs", 2.5),
    ("memory_temperature", float("nan")), ("arch", 3), ("arch", None), ("feature_norm", "no"), ("crop_size", [16]),
])
def test_options_of_a_checkpoint_are_checked_as_those_of_the_command_line(run, capsys, flag, value):
    change(run, f"options/{flag}", value)
    assert wrong_flag(torch.load(run / "last.pt", weights_only=True)["options"]) == flag
    with pytest.raises(RunError, match=f"--{flag} cannot be"):
        architectures.restore(run / "last.pt")
    for argv in (["--resume", str(run)], ["--evaluate_only", "--checkpoint", str(run / "last.pt")]):
        assert main.main([*argv, "--device", "cpu"]) == 2
        assert f"--{flag} " in capsys.readouterr().err


@pytest.mark.parametrize("key,value", [("seed", {}), ("seed", 10**30), ("state", torch.zeros(2))])
def test_a_damaged_random_stream_is_one_sentence(run, capsys, key, value):
    change(run, f"method/policy._extra_state/{key}", value)
    assert main.main(["--resume", str(run), "--n_epochs", "3", "--device", "cpu", "--no-figures"]) == 1
    error = capsys.readouterr().err
    assert "random draws in the checkpoint is damaged" in error and "--debug" not in error


@pytest.mark.parametrize("classes", [[1], {"val": ["class1", None]}, {"train": 3}])
def test_damaged_classes_are_one_sentence(run, capsys, classes):
    change(run, "classes", classes)
    assert main.main(["--resume", str(run), "--n_epochs", "3", "--device", "cpu", "--no-figures"]) in (1, 2)
    assert "--debug" not in capsys.readouterr().err


def test_the_options_of_a_run_are_right(made):
    state = checkpoint.load(made / "last.pt")
    assert wrong_flag(state["options"]) is None
    assert wrong_flag(vars(get_options(["--recipe", "paper"]))) is None


def test_a_changed_byte_is_seen(run):
    content = bytearray((run / "last.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "last.pt").write_bytes(content)
    with pytest.raises(RunError, match="not a readable checkpoint"):
        checkpoint.load(run / "last.pt")


@pytest.mark.parametrize("value,words", [
    (torch.full((8,), torch.nan), "NaN or inf"), (torch.zeros(8).long(), "int64"), (torch.zeros(8) * 1j, "complex64"),
])
def test_weights_that_are_none_are_refused_by_name(run, value, words):
    change(run, "network/projection.bias", value)
    with pytest.raises(RunError, match=f"projection.bias: {words}"):
        architectures.restore(run / "last.pt")


def test_a_run_continues_under_the_architecture_as_it_was_typed(folder, tmp_path, capsys):  # noqa: F811
    small = ["--savename", "a", "--embed_dim", "8", "--bs", "8", "--no-figures", "--relation_hidden", "4"]
    argv = ["convnet" if word == "convnet_normalize" else word for word in flags(folder, tmp_path, *small)]
    assert main.main(argv) == 0
    assert checkpoint.load(tmp_path / "image_folder" / "a" / "last.pt")["options"]["arch"] == "convnet_normalize"
    capsys.readouterr()
    assert main.main([*argv, "--resume", "auto"]) == 0, capsys.readouterr().err


def test_an_unknown_value_of_a_flag_is_a_usage_error():
    with pytest.raises(UsageError, match="--input_mean"):
        get_options(["--resume", "x"], trained={"input_mean": [1]})
