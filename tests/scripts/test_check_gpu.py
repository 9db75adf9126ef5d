"""scripts/check_gpu.sh: every part runs, in tiny, on a CPU; one that fails or is late is named."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = [
    "CUDA tests",
    "step, batch",
    "synchronisations",
    "evaluation",
    "loader",
    "two processes on one device",
]

# Stands for Python: says what it is called with, and ends or sleeps as the test wants.
STUB = """#!/usr/bin/env bash
[[ $1 == - ]] && { cat > /dev/null; echo "a device, a day"; exit "${NO_GPU:-0}"; }
echo "called with $*"
[[ "$*" == *loader* ]] && { echo "no images"; exit 3; }
[[ "$*" == *evaluation* ]] && exec sleep 60
exit 0
"""


def call(out, python, **variables):
    own = {"OUT": str(out), "PYTHON": str(python), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "scripts" / "check_gpu.sh")]
    environment = os.environ | own | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture
def stub(tmp_path):
    path = tmp_path / "python"
    path.write_text(STUB)
    path.chmod(0o755)
    return path


def results(out):
    """The second column of the first table, by the first."""
    summary = out.read_text().split("\n### ")[0]
    lines = [line for line in summary.splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {name: result for name, result, _ in rows[1:]}


def test_a_part_that_fails_or_is_late_is_named_and_the_others_go_on(stub, tmp_path):
    out = tmp_path / "new" / "table.md"
    done = call(out, stub, LIMIT="2")
    assert done.returncode == 1 and "no images" in done.stderr
    text = out.read_text()
    assert text.startswith("a device, a day\n") and done.stdout == text
    assert results(out) == {
        "CUDA tests": "ran",
        "step, batch 112 (goal 1.15)": "ran",
        "step, batch 180 (goal 1.15)": "ran",
        "synchronisations": "ran",
        "evaluation": "**not done in 2 s**",
        "loader": "**failed**",
        "two processes on one device": "ran",
    }
    assert "--networks resnet50 --amp bf16 --compile" in text
    assert "--size sop" in text and "-m gpu tests" in text


def test_a_whole_one_ends_well(stub, tmp_path):
    done = call(tmp_path / "table.md", stub, ONLY="step|tests")
    assert done.returncode == 0 and len(results(tmp_path / "table.md")) == 3


def test_without_a_gpu_it_says_so(stub, tmp_path):
    done = call(tmp_path / "table.md", stub, NO_GPU="2")
    assert done.returncode == 2 and not (tmp_path / "table.md").exists()
    assert done.stderr.count("\n") == 1 and "there is no GPU" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs_without_a_gpu(tmp_path, part):
    out = tmp_path / "table.md"
    done = call(out, sys.executable, DEVICE="cpu", QUICK="1", ONLY=part, LIMIT="300")
    assert done.returncode == 0, done.stderr
    assert set(results(out).values()) == {"ran"} and len(out.read_text().splitlines()) > 7
