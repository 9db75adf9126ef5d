"""Packages, cores, groups of parameters, and the sentences on what a run was tested on."""
import importlib
import os
import sys

import pytest
import torch

from utilities import tested
from utilities.cores import usable_cores
from utilities.digest import md5, sha256
from utilities.errors import UsageError
from utilities.groups import group
from utilities.optional import installed, require
from utilities.tested import SEEN, UNSEEN


@pytest.mark.parametrize("package", ["json", "torch", "os.path", "no_such_package_x"])
def test_a_package_is_installed_where_it_can_be_imported(package):
    try:
        importlib.import_module(package)
        expected = True
    except ImportError:
        expected = False
    assert installed(package) is expected


def test_to_ask_for_a_package_does_not_import_it(tmp_path, monkeypatch):
    (tmp_path / "fails_on_import_x.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed("fails_on_import_x")
    assert "fails_on_import_x" not in sys.modules


def test_a_package_that_a_test_or_program_has_blocked_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert not installed("timm")


@pytest.mark.parametrize("packages,missing", [
    (["no_such_a"], "no_such_a: run pip install no_such_a."),
    (["json", "no_such_a", "torch"], "no_such_a: run pip install no_such_a."),
    (["no_such_a", "no_such_b"], "no_such_a and no_such_b: run pip install no_such_a no_such_b."),
])
def test_missing_packages_are_named_with_their_command(packages, missing):
    with pytest.raises(UsageError) as caught:
        require("--log_online", *packages)
    assert str(caught.value) == f"--log_online needs {missing}"


def test_packages_that_are_there_are_no_error():
    require("--amp")
    require("--amp", "json", "torch")


@pytest.mark.parametrize("allowed,machine,cores", [
    ({0, 5, 7}, 64, 3),
    ({3}, 64, 1),
    (None, 8, 8),
    (None, None, 1),
])
def test_cores_are_those_that_the_process_may_use(monkeypatch, allowed, machine, cores):
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    if allowed is None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed, raising=False)
    assert usable_cores() == cores


def test_digests_of_an_empty_file_and_of_the_letters_abc_are_the_published_ones(tmp_path):
    path = tmp_path / "ä.bin"
    path.write_bytes(b"")
    assert md5(path) == "d41d8cd98f00b204e9800998ecf8427e"
    assert sha256(str(path)).startswith("e3b0c44298fc1c149afbf4c8996fb924")
    path.write_bytes(b"abc")
    assert md5(str(path)) == "900150983cd24fb0d6963f7d28e17f72"
    assert sha256(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_group_has_its_rate_and_decay_or_those_of_the_optimizer():
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(4)]
    groups = [
        group("a", weights[:1], None),
        group("b", (weight for weight in weights[1:2]), 0.0),
        group("c", weights[2:3], 0.5),
        group("d", weights[3:], 0.5, decays=False),
    ]
    optimizer = torch.optim.SGD(groups, lr=2.0, weight_decay=0.25)
    settings = [(one["name"], one["lr"], one["weight_decay"]) for one in optimizer.param_groups]
    assert settings == [("a", 2, 0.25), ("b", 0, 0.25), ("c", 0.5, 0.25), ("d", 0.5, 0)]
    for weight in weights:
        weight.grad = torch.zeros(1)
    optimizer.step()
    # a weight of one loses rate times decay
    assert [weight.item() for weight in weights] == [0.5, 1, 0.875, 1]


@pytest.mark.parametrize("flags,classes,note", [
    ({}, UNSEEN, None),
    ({"train_on_all": False, "test_by_images": 0.2}, UNSEEN, None),
    ({"train_on_all": None}, UNSEEN, None),
    ({"train_on_all": True}, None, "no images are held for testing."),
    ({"train_on_all": True, "test_by_images": None}, None, "no images are held for testing."),
    ({"train_on_all": True, "test_by_images": 0.2}, SEEN, "This says nothing of new classes."),
])
def test_what_metrics_speak_of(flags, classes, note):
    assert tested.tested_on(flags) == classes
    assert tested.has_test(flags) is (classes is not None)
    said = tested.note_of_all(flags)
    assert (said is None) is (note is None)
    assert said is None or said.endswith(note)
    assert classes != SEEN or SEEN in said
