"""`--list`: every exact name, one a line, and nothing else."""
import subprocess
import sys
from pathlib import Path

import pytest

import main
from architectures.backbones import BACKBONES
from architectures.memory import MEMORIES
from architectures.network import POOLINGS
from batchminer import MINERS
from criteria import CRITERIA
from datasets import DATASETS
from datasets.samplers import SAMPLERS
from evaluation import METRICS
from flows import FLOWS
from parameters import build_parser
from utilities import listing

NAMES = {"architectures": {*BACKBONES, "features", "torchvision.NAME", "timm.NAME"}, "losses": {*CRITERIA, "pml.CLASS"},
         "miners": {*MINERS, "none"}, "samplers": set(SAMPLERS), "datasets": set(DATASETS), "metrics": set(METRICS),
         "flows": set(FLOWS), "memories": {*MEMORIES, "none"}, "poolings": set(POOLINGS)}


def listed(capsys, what):
    """The first word of every line, and the lines."""
    assert main.main(["--list", what]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert printed.err == "" and printed.out.endswith("\n") and all(line == line.rstrip() != "" for line in lines)
    return [line.split()[0] for line in lines], lines


def test_the_flag_knows_every_list():
    lists = next(action.choices for action in build_parser()._actions if action.dest == "list")
    assert set(lists) == {*listing.FLAGS, *listing.OF_LIBRARIES} > set(NAMES)


@pytest.mark.parametrize("what", NAMES)
def test_each_name_is_a_line(capsys, what):
    names, _ = listed(capsys, what)
    assert len(names) == len(set(names)) and set(names) == NAMES[what]


@pytest.mark.parametrize("what", ["architectures", "losses", "miners", "samplers", "datasets", "flows", "memories"])
def test_descriptions_stand_in_one_column(capsys, what):
    names, lines = listed(capsys, what)
    width = max(map(len, names)) + 2
    assert all(line[:width].strip() == name and len(line[width:].split()) > 1 and line[width] != " " and len(line) < 130
               for name, line in zip(names, lines))


def test_models_of_torchvision_and_of_timm_are_listed(capsys):
    assert {"torchvision.convnext_tiny", "torchvision.vit_b_16"} < set(listed(capsys, "torchvision")[0])
    pytest.importorskip("timm")
    assert {"timm.resnet26", "timm.resnet26.bt_in1k", "timm.vit_small_patch14_dinov2.lvd142m"} < set(
        listed(capsys, "timm")[0])


def test_files_of_weights_have_sum_and_address(capsys):
    names, lines = listed(capsys, "weights")
    assert len(names) == len(BACKBONES) - 1                                        # there are none for convnet
    line = next(line for line in lines if line.startswith("bn_inception-52deb4733.pth "))
    assert "bninception; SHA-256 begins with 52deb4733; http://data.lip6.fr/" in line


def test_a_list_that_there_is_not(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["--list", "loss"])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == "" and said.err.count("\n") == 1 and "'losses'" in said.err


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} main.py --list torchvision | head -n 1"
    run = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True,
                         cwd=Path(main.__file__).parent)
    assert run.stdout == "torchvision.alexnet\n" and run.stderr == ""
