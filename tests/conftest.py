"""Shared fixtures: threads and randomness fixed, GPU tests skipped with a reason where there is no GPU."""
import os

import pytest
import torch

from utilities.errors import naming_flags

# of the processes that tests start; parallel workers would compete
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; this machine has none"))


@pytest.fixture(autouse=True)
def fixed_randomness():
    """Every test starts from the same random state, and one thread, so that parallel workers do not compete."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    """Flags of a short run on a few characters, which are drawn once for a file of tests."""
    place = str(tmp_path_factory.mktemp("glyphs"))
    return ["--glyphs_classes", "12", "--source_path", place, "--device", "cpu", "--bs", "12", "--n_epochs", "1",
            "--eval_every", "1", "--cache", "none", "--evaluation_metrics", "e_recall@1", "mAP_r"]


@pytest.fixture(autouse=True)
def errors_as_a_command_shows_them():
    """They name flags, unless a test looks at what a program of one's own gets."""
    with naming_flags():
        yield
