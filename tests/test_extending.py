"""docs/extending.md carried out word for word in a copy of the repository."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
STEP = re.compile(r"^`([\w/]+\.py)`(?:, after `([^`\n]+)`)?\n\n```python\n(.*?)```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = shutil.ignore_patterns(".*", "runs", "__pycache__", "*.jpg")


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the repository in which every step of the page is done."""
    copy = tmp_path_factory.mktemp("extending") / "repository"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    steps = STEP.findall((ROOT / "docs" / "extending.md").read_text())
    for path, after, code in steps:
        file = copy / path
        if not after:
            assert not file.exists(), path
            file.write_text(code)
            continue
        text = file.read_text()
        assert text.count(after + "\n") == 1, f"{path}: {after}"
        file.write_text(text.replace(after + "\n", after + "\n" + code))
    assert len(steps) >= 10
    return copy


def run(copy, *command, input=None):
    done = subprocess.run([sys.executable, *command], cwd=copy, input=input, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_new_loss_and_a_new_miner_pass_every_test(extended):
    run(extended, "scripts/document_criteria.py")
    out = run(extended, "-m", "pytest", "-p", "no:cacheprovider", "tests/criteria/test_criteria.py",
              "tests/batchminer", "tests/test_parameters.py", "tests/test_documents.py",
              "-k", "binomialdeviance or easy_positive or has_an_oracle or constructors_arguments or up_to_date")
    assert int(re.search(r"(\d+) passed", out)[1]) > 60
    page = (extended / "docs" / "criteria.md").read_text()
    assert "`binomialdeviance`" in page and "`easy_positive`" in page and "Yi et al., 2014" in page


SMALL = ["--glyphs_classes", "16", "--glyphs_images_per_class", "8"]
QUICK = ["--bs", "16", "--n_epochs", "1", "--log_every", "1", "--device", "cpu", "--no-figures", "--kernels", "0"]


TRAINED = [
    ["--loss", "binomialdeviance", "--loss_binomialdeviance_scale", "4"],
    ["--loss", "margin", "--batch_mining", "easy_positive"],
    ["--loss", "my_losses.SquaredPairs", "--xbm_size", "32", "--xbm_start", "1"],
    ["--policy_reward", "first_is_right", "--policy_step", "0.1"],
    ["--relation", "deepset"],
    ["--memory", "linear"],
    ["--data_sampler", "bootstrap"],
    ["--arch", "patches_normalize", "--image_size", "32", "--lr", "1e-3", "--warmup_epochs", "0"],
]
# one process for all: most of a short run is its imports
TRAIN = """
import json, sys, main
for flags in json.load(sys.stdin):
    print("BEGINS", flags[1], flush=True)
    assert main.main(flags) == 0
"""


def test_it_trains(extended):
    runs = [[*flags, *SMALL, *QUICK] for flags in TRAINED]
    out = run(extended, "-c", TRAIN, input=json.dumps(runs))
    said = out.split("BEGINS ")[1:]
    assert [text.split()[0] for text in said] == [flags[1] for flags in TRAINED]
    assert all("trained" in text for text in said)


def test_a_new_metric_is_reported(extended):
    out = run(extended, "main.py", *SMALL, *QUICK, "--evaluation_metrics", "e_recall@1", "ndcg@1", "ndcg@4",
              "--n_epochs", "0")
    header, _, row = [line.split("|") for line in out.splitlines() if line.startswith("|")][:3]
    values = dict(zip([cell.strip() for cell in header], [cell.strip() for cell in row]))
    assert values["ndcg@1"] == values["e_recall@1"]
    assert 0 < float(values["ndcg@4"]) <= 100


def test_a_new_data_set_is_read(extended, tmp_path):
    for half, classes in (("train", "abcd"), ("test", "efgh")):
        for name in classes:
            folder = tmp_path / half / name
            folder.mkdir(parents=True)
            for i in range(4):
                pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    out = run(extended, "main.py", *QUICK, "--dataset", "two_folders", "--source_path", str(tmp_path), "--arch",
              "convnet_normalize", "--bs", "8")
    assert "train 16 images of 4 classes, test 16 images of 4 classes" in out


def test_new_names_are_listed(extended):
    for what, name in (("losses", "binomialdeviance"), ("miners", "easy_positive"), ("memories", "linear"),
                       ("metrics", "ndcg@<k>"), ("samplers", "bootstrap"), ("datasets", "two_folders"),
                       ("architectures", "patches")):
        names = [line.split()[0] for line in run(extended, "main.py", "--list", what).splitlines()]
        assert name in names


def test_every_example_runs_after_two_files_at_most():
    """A new file and its line in a registry; flags, oracles and documents come after."""
    page = (ROOT / "docs" / "extending.md").read_text()
    for section in page.split("\n## ")[1:]:
        before = section.partition("**3.")[0]
        assert len({path for path, _, _ in STEP.findall(before)}) <= 2, section[:40]


def test_a_loss_without_its_oracle_fails(extended):
    oracles = extended / "tests" / "oracles" / "pairs.py"
    text = oracles.read_text()
    oracles.write_text(text.replace('    "binomialdeviance": binomialdeviance,\n', ""))
    try:
        with pytest.raises(AssertionError, match="test_every_criterion_has_an_oracle"):
            run(extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/criteria/test_criteria.py", "-k",
                "has_an_oracle")
    finally:
        oracles.write_text(text)
