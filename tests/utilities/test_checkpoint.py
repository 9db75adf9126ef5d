"""Checkpoints from anywhere: what cannot be written, read or loaded is one sentence."""
import errno
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from utilities import checkpoint
from utilities.checkpoint import DEFINES_NETWORK, load, load_network, load_weights, save
from utilities.errors import RunError, UsageError
from utilities.files import replacing

FLAGS = dict.fromkeys(DEFINES_NETWORK)


def linear():
    return nn.Sequential(nn.Linear(3, 2))


def made(folder, tensors, **options):
    """A checkpoint with these tensors, by a run with these flags."""
    path = folder / "last.pt"
    save(path, {"network": tensors, "options": options})
    return path


def test_plain_values_and_tensors_of_any_kind_come_back_as_they_were(tmp_path):
    state = {
        "network": OrderedDict(w=torch.randn(2, 3)),
        "options": {"name": "Ä 猫", "tau": [1, 2.5], "none": None, "on": True},
        "half": torch.randn(3).bfloat16(),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2**40),
        "nan": float("nan"),
    }
    save(tmp_path / "a.pt", state)
    found = load(tmp_path / "a.pt")
    assert found.keys() == state.keys()
    assert found["options"] == state["options"]
    assert torch.equal(found["network"]["w"], state["network"]["w"])
    assert found["half"].dtype == torch.bfloat16 and torch.equal(found["half"], state["half"])
    assert found["empty"].shape == (0, 4)
    assert found["scalar"] == 2**40
    assert found["nan"] != found["nan"]


def test_a_name_that_ends_otherwise_or_is_not_ascii_is_no_other_format(tmp_path):
    path = tmp_path / "Häuser 猫.safetensors"
    save(path, {"network": {}, "options": {"bs": 1}})
    assert load(str(path))["options"] == {"bs": 1}


def refused(path):
    with pytest.raises(RunError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_is_refused(tmp_path, share):
    path = made(tmp_path, linear().state_dict())
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    assert "is not a readable checkpoint: it is damaged" in refused(path)


def test_a_changed_byte_of_a_tensor_is_seen(tmp_path):
    path = made(tmp_path, {"w": torch.full((64,), 1.5)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 1.5).numpy().tobytes()) + 7] ^= 1
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_the_format_of_before_2020_has_no_checksums_and_is_refused(tmp_path):
    path = tmp_path / "old.pt"
    state = {"network": {}, "options": {}}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert "is not a readable checkpoint" in refused(path)


@pytest.mark.parametrize("state", [
    [],
    {},
    {"network": {}},
    {"network": {}, "options": None},
    {"network": torch.zeros(2), "options": {}},
    torch.zeros(2),
])
def test_what_is_no_checkpoint_of_a_run_is_refused(tmp_path, state):
    path = tmp_path / "a.pt"
    torch.save(state, path)
    assert "is not a checkpoint of main.py" in refused(path)


@pytest.mark.parametrize("content", [nn.Linear(1, 1), Path("a"), np.zeros(2), {1: print}])
def test_what_only_a_program_could_read_is_refused(tmp_path, content):
    path = tmp_path / "a.pt"
    torch.save({"network": {}, "options": {}, "more": content}, path)
    assert "holds more than tensors and numbers" in refused(path)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(UsageError, match="there is no such file; pass last.pt or best_"):
        load(tmp_path)


def test_a_folder_that_is_gone_is_one_sentence(tmp_path):
    path = tmp_path / "gone" / "run" / "last.pt"
    with pytest.raises(RunError, match=r"last.pt could not be written \(.*; [0-9]+ MiB are free"):
        save(path, {})
    assert not path.parent.exists()


@pytest.mark.parametrize("error,words", [
    (OSError(errno.ENOSPC, "No space left on device"), "(No space left on device; "),
    (RuntimeError("PytorchStreamWriter failed."), "(PytorchStreamWriter failed; "),
])
def test_a_write_that_fails_names_its_reason_and_keeps_the_file(
    tmp_path, monkeypatch, error, words
):
    path = made(tmp_path, {}, bs=1)

    def fail(state, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RunError) as caught:
        save(path, {})
    assert words in str(caught.value)
    assert load(path)["options"] == {"bs": 1}
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    asked = []

    def noted(path, *, sync=False):
        asked.append(sync)
        return replacing(path, sync=sync)

    monkeypatch.setattr(checkpoint, "replacing", noted)
    made(tmp_path, {})
    assert asked == [True]


def test_weights_are_loaded_bit_for_bit_in_the_type_of_the_network(tmp_path):
    source = linear()
    network = linear()
    load_network(made(tmp_path, source.state_dict()), network, FLAGS)
    assert torch.equal(network[0].weight, source[0].weight)
    load_network(made(tmp_path, linear().half().state_dict()), network, FLAGS)
    assert network[0].weight.dtype == torch.float32


@pytest.mark.parametrize("value,flaw", [
    (torch.full((2, 3), float("nan")), "NaN or inf"),
    (torch.full((2, 3), -float("inf")), "NaN or inf"),
    (torch.ones(2, 3, dtype=torch.int64), "int64"),
    (torch.ones(2, 3, dtype=torch.complex64), "complex64"),
])
def test_tensors_that_are_no_weights_change_nothing(tmp_path, value, flaw):
    network = linear()
    before = network[0].weight.clone()
    path = made(tmp_path, linear().state_dict() | {"0.weight": value})
    with pytest.raises(RunError) as caught:
        load_network(path, network, FLAGS)
    assert str(caught.value) == f"{path} holds no finite weights (0.weight: {flaw}): it is damaged."
    assert torch.equal(network[0].weight, before)


@pytest.mark.parametrize("change", [
    {"0.weight": [1.0, 2.0]},
    {"0.weight": torch.zeros(3, 3)},
    {"1.weight": torch.zeros(1)},
    {0: torch.zeros(1)},
    {("0", "weight"): torch.zeros(1)},
])
def test_tensors_of_another_network_are_a_misfit(tmp_path, change):
    path = made(tmp_path, linear().state_dict() | change)
    with pytest.raises(UsageError) as caught:
        load_network(path, linear(), FLAGS)
    sentence = f"--checkpoint {path} does not fit this network."
    assert str(caught.value) == f"{sentence} It was made by another version of the code."


def test_a_missing_tensor_is_a_misfit_too():
    tensors = dict(linear().state_dict())
    del tensors["0.bias"]
    with pytest.raises(RuntimeError, match="0.bias"):
        load_weights(linear(), tensors, "a.pt")


def test_all_flags_that_differ_are_advised_in_the_order_of_the_help(tmp_path):
    recorded = {"memory": "glow", "embed_dim": 2, "arch": "resnet18", "bs": 7}
    path = made(tmp_path, nn.Linear(9, 9).state_dict(), **recorded)
    with pytest.raises(UsageError, match="Pass --arch resnet18 --embed_dim 2 --memory glow[.]$"):
        load_network(path, linear(), FLAGS | {"bs": 8})


def test_flags_that_do_not_change_the_network_may_differ(tmp_path):
    path = made(tmp_path, linear().state_dict(), bs=7, input_mean=[0.5], arch="a")
    load_network(path, linear(), FLAGS | {"bs": 8, "input_mean": (0.5,), "arch": "a"})
    # other tensors would not fit; these fit, whatever the flag says
    load_network(path, linear(), FLAGS | {"input_mean": [0.5], "arch": "b"})
