"""docs/using.md carried out word for word in a copy of the repository, but for a shorter training."""
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "using.md").read_text()
CONSOLE = re.compile(r"^```console\n(.*?)```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = shutil.ignore_patterns(".*", "runs", "__pycache__", "*.jpg")
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "faiss")
needs_packages = pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in PACKAGES),
                                    reason=f"needs {', '.join(PACKAGES)}")
SHORTER = ["--n_epochs", "1", "--map_images", "0"]


def commands() -> list[tuple[list[str], list[str]]]:
    """Every command of the page, as words, with the lines that it prints there."""
    found = []
    for block in CONSOLE.findall(PAGE):
        command, *printed = block.strip().splitlines()
        while command.endswith("\\"):
            command = command[:-1] + printed.pop(0)
        found.append((shlex.split(command.removeprefix("$ ")), printed))
    return found


def plain(line: str) -> str:
    """A line without its numbers and the width of its columns."""
    return re.sub(r"\d[\d.,e-]*", "0", re.sub(r"[\s:-]+", " ", line)).strip()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A copy of the repository in which the commands of the page have run, and what each printed."""
    copy = tmp_path_factory.mktemp("using") / "repository"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    here, said = os.environ | {"XDG_CACHE_HOME": str(copy.parent / "cache"), "OMP_NUM_THREADS": "1"}, []
    for (program, *words), _ in commands():
        assert program == "python"
        more = SHORTER if words == ["main.py", "--savename", "first"] else []
        run = subprocess.run([sys.executable, *words, *more], cwd=copy, capture_output=True, text=True, env=here)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
        said.append(run.stdout)
    return copy, said


def test_the_page_leads_from_images_to_a_search_in_five_commands():
    assert [words[1] if words[1] != "-m" else words[2] for words, _ in commands()] == [
        "main.py", "main.py", "architectures.export", "evaluation.embed", "evaluation.search"]


@pytest.mark.slow
@needs_packages
def test_every_command_prints_what_the_page_shows(done):
    for (words, printed), said in zip(commands(), done[1]):
        lines = {plain(line) for line in said.splitlines()}
        for line in printed:
            if line != "..." and not line.startswith("  "):
                assert plain(line) in lines, f"{shlex.join(words)} no longer prints: {line}\n{said}"
    table = [line.split() for line in done[1][-1].splitlines() if line.startswith("  ")]
    shown = [line.split() for line in commands()[-1][1] if line.startswith("  ")]
    assert [len(row) for row in table[:len(shown)]] == [len(row) for row in shown] and table[0] == shown[0]


@pytest.mark.slow
@needs_packages
def test_the_python_of_the_page_gives_the_row_that_embed_wrote(done):
    code = PYTHON.findall(PAGE)[0]
    assert subprocess.run([sys.executable, "-c", code], cwd=done[0]).returncode == 0
    query = re.search(r'prepare\("(.*?)"\)', code)[1]
    folder = done[0] / next(words for words, _ in commands() if words[1:3] == ["-m", "evaluation.search"])[3]
    paths = [line.split(",")[0] for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    row = next(i for i, path in enumerate(paths) if query.endswith(path))
    np.testing.assert_allclose(np.load(done[0] / "row.npy")[0], np.load(folder / "embeddings.npy")[row], atol=1e-4)
