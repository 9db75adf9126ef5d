"""docs/extending.md carried out word for word in a copy of the repository."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def run(copy, *command):
    done = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_new_loss_and_a_new_miner_pass_every_test(extended):
    run(extended, "scripts/document_criteria.py")
    out = run(extended, "-m", "pytest", "-p", "no:cacheprovider", "tests/criteria/test_criteria.py",
              "tests/batchminer", "tests/test_parameters.py", "tests/test_documents.py",
              "-k", "binomialdeviance or easy_positive or has_an_oracle or constructors_arguments or up_to_date")
    assert int(re.search(r"(\d+) passed", out)[1]) > 60
    page = (extended / "docs" / "criteria.md").read_text()
    assert "`binomialdeviance`" in page and "`easy_positive`" in page and "Person Re-Identification" in page


@pytest.mark.parametrize("flags", [
    ["--loss", "binomialdeviance", "--loss_binomialdeviance_scale", "4"],
    ["--loss", "margin", "--batch_mining", "easy_positive"],
    ["--loss", "my_losses.SquaredPairs", "--xbm_size", "32", "--xbm_start", "1"]])
def test_it_trains_with_learned_weights(extended, flags):
    small = ["--glyphs_classes", "16", "--glyphs_images_per_class", "8", "--bs", "16", "--n_epochs", "1", "--log_every",
             "1", "--device", "cpu", "--no-figures"]
    assert "trained" in run(extended, "main.py", *small, *flags)


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
