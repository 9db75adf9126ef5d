"""docs/library.md and the notebooks of examples/: what they name exists, and what they show runs."""
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchminer import Miner
from criteria import Criterion
from criteria.method import LearnedWeights
from datasets.samplers import BatchSampler

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)```$", PAGE, re.MULTILINE | re.DOTALL)
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LEFT_OUT = shutil.ignore_patterns(".*", "runs", "__pycache__", "*.jpg")
# all public names of these stand on the page
ROOMS = ("criteria", "criteria.method", "batchminer", "datasets", "datasets.samplers", "architectures", "flows",
         "evaluation")
REGISTRIES = {"criteria": "CRITERIA", "batchminer": "MINERS", "datasets.samplers": "SAMPLERS"}
# the imports of a cell or block, whose names may stand in parentheses
IMPORT = re.compile(r"^from ([\w.]+) import (.+)$", re.MULTILINE)


def cells(notebook: Path, kind: str = "code") -> list[str]:
    """The sources of a notebook's cells."""
    content = json.loads(notebook.read_text())
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def run(folder: Path, code: str, **kwargs) -> str:
    """What code prints in a folder, one thread."""
    here = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=here, **kwargs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def imported(code: str) -> dict[str, object]:
    """The names of our rooms that code imports, each with what it is."""
    found = {}
    for module, names in IMPORT.findall(code):
        if (ROOT / module.split(".")[0]).is_dir():
            for name in names.split(", "):
                name = name.partition(" as ")[0]
                found[name] = getattr(importlib.import_module(module), name)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_on_the_page(room):
    names = set(importlib.import_module(room).__all__)
    assert len(names) > 3
    # classes of a registry are named by the registry
    if room in REGISTRIES:
        module = importlib.import_module(room)
        classes = {cls.__name__ for cls in getattr(module, REGISTRIES[room]).values()}
        assert all(inspect.isclass(getattr(module, name)) for name in classes)
        assert classes & set(re.findall(r"`(\w+)`", PAGE))
        names -= classes
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_every_name_of_the_tables_can_be_imported():
    """The names of a table are those of the module in its head, or of the module in the row."""
    module, checked = None, 0
    for line in PAGE.splitlines():
        if head := re.match(r"\| `([\w.]+)` \| \|$", line):
            module = head[1]
        elif not line.startswith("|"):
            module = None
        elif row := re.match(r"\| `(evaluation\.\w+)` \| (.*) \|$", line):
            found = importlib.import_module(row[1])
            for name in re.findall(r"`(\w+)`", row[2]):
                assert hasattr(found, name), (row[1], name)
                checked += 1
        elif module and line.startswith("| `"):
            for name in re.findall(r"`(\w+)`", line.split("|")[1]):
                assert hasattr(importlib.import_module(module), name), (module, name)
                checked += 1
    assert checked > 50


@pytest.mark.parametrize("block", BLOCKS, ids=[IMPORT.findall(block)[-1][0] for block in BLOCKS])
def test_the_examples_of_the_page_run(block, tmp_path):
    run(tmp_path, block)


def test_the_whole_method_takes_at_most_twenty_lines():
    whole = next(block for block in BLOCKS if "LMMetric(" in block)
    lines = [line for line in whole.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 20


def test_there_are_three_notebooks_and_the_page_links_them():
    assert len(NOTEBOOKS) == 3
    assert all(f"../examples/{notebook.name}" in PAGE for notebook in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(notebook):
    content = json.loads(notebook.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def documentation(thing) -> str:
    """The docstrings of a function, or of a class, its bases in this repository and their methods."""
    if not inspect.isclass(thing):
        return inspect.getdoc(thing) or ""
    bases = [base for base in thing.__mro__ if base.__module__.split(".")[0] not in ("torch", "builtins")]
    parts = list(bases)
    for base in bases:
        parts += [member for member in vars(base).values() if inspect.isfunction(member)]
    return "\n".join(inspect.getdoc(part) or "" for part in parts)


SHAPE = re.compile(r"\([A-Z]\w*,[ \w,]*\)")
# numbers and names alone
SETTINGS = {"PolicyTraining"}


@pytest.mark.parametrize("code", [*("\n".join(cells(notebook)) for notebook in NOTEBOOKS), *BLOCKS])
def test_every_class_that_is_shown_documents_shapes_errors_and_source(code):
    objects = imported(code)
    assert objects
    for name, thing in objects.items():
        assert inspect.getdoc(thing), name
        if not inspect.isclass(thing) or name in SETTINGS:
            continue
        text = documentation(thing)
        assert SHAPE.search(text), f"{name} has no shapes"
        if issubclass(thing, Criterion | Miner | BatchSampler):
            assert "UsageError" in text, f"{name} does not say what it refuses"
        if issubclass(thing, Criterion | Miner | LearnedWeights):
            assert re.search(r"\b(19|20)\d\d\b", inspect.getdoc(thing)), f"{name} names no source"


CHECKS = {
    "own_training_loop": "assert final['e_recall@1'] > 0.12, final",
    "learned_weights": "assert final['e_recall@1'] > 0.25 and len(records) > 20, final",
    "search": "assert sum(hit.right for result in results for hit in result.hits) > 8",
}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_learns(notebook, tmp_path):
    """Chance is at 0.03 recall, and at 0.8 of 24 hits."""
    copy = tmp_path / "repository"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    code = "\n".join([*cells(notebook), CHECKS[notebook.stem]])
    run(copy / "examples", code, timeout=500)
