"""Every command of the documents is run, word for word on small data, or marked in docs/README.md."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_document_commands import PAGES, commands, words_of

ROOT = Path(__file__).parent.parent
# pages whose commands their own tests carry out
OF_THEIR_OWN = {"using.md": "tests/test_using.py", "extending.md": "tests/test_extending.py"}
# what docs/README.md says of the commands that no test runs
LEGEND = re.compile(r"^Tests run them all.*?\n\n", re.MULTILINE | re.DOTALL)
# the tests, of which this is one
TESTS = {"make test", "make test-all", "python -m pytest -n 0 tests/criteria"}
# named in a sentence, without the words that it needs
NAMES = {"python -m evaluation.score", "python -m evaluation.tables"}
SMALL = ["--device", "cpu", "--kernels", "0", "--no-figures", "--n_epochs", "1"]
RUN = "runs/image_folder/NAME"
# in the order in which they run: what later ones read is written by earlier ones, with the words that make them small
HERE = {
    "python main.py --list architectures": [],
    "python main.py --help": [],
    "python main.py --dataset image_folder --source_path CLASSES": [*SMALL, "--arch", "convnet_normalize", "--bs", "12",
                                                                  "--image_size", "16", "--savename", "NAME"],
    "python main.py --repeat RUN/options.json": ["--savename", "again", "--lr", "1e-4"],
    "python main.py --config FILE": [],
    "python -m evaluation.report RUN": [],
    "python main.py --evaluate_only --checkpoint runs/glyphs/NAME/last.pt --json metrics.json": ["--device", "cpu"],
    "python -m evaluation.embed NETWORK SOURCE --out FOLDER": ["--device", "cpu"],
    "python -m evaluation.score FOLDER/embeddings.npy FOLDER/labels.csv": [],
    "python -m evaluation.explorer FOLDER/embeddings.npy FOLDER/labels.csv IMAGES --out explorer.html": [],
    "python -m evaluation.embed torchvision.resnet18 PHOTOS --out FOLDER": ["--device", "cpu", "--not_pretrained",
                                                                          "--out", "PHOTOS-rows"],
    "python -m evaluation.tables RUNS --format markdown --metric e_recall@1 mAP_r --baseline NAME": [],
    "python -m evaluation.tables RUNS --at best": [],
    "python main.py --dataset embeddings --source_path CLIP/features.npy --embed_dim 128 --lr 1e-4": [
        "--device", "cpu", "--no-figures", "--n_epochs", "1", "--bs", "12", "--savename", "RUN"],
    "python -m evaluation.embed runs/embeddings/RUN/last.pt NEW.npy --out FOLDER": ["--device", "cpu", "--out", "HEAD"],
    "python main.py --repeat runs/image_folder/best/options.json --train_on_all --savename final": [],
    "DRY_RUN=1 bash scripts/table_cub200.sh": [],
}


# commands of the repository itself, with the words that make them small
OF_THE_REPOSITORY = {
    "make demo": [],
    "make lint": [],
    "python scripts/document_criteria.py": [],
}
BENCHMARKS = {
    "python benchmarks/allocator.py": ["--rounds", "1", "--repeats", "1"],
    "OMP_NUM_THREADS=1 python benchmarks/search.py --size 60000 --queries 1 20 --rounds 5": ["--size", "500"],
    "python benchmarks/criteria.py": ["--rounds", "1", "--bs", "24", "--embed_dim", "8", "--loss", "margin"],
    "python benchmarks/evaluation.py --size sop": ["--size", "500", "--rounds", "1"],
    "python benchmarks/frozen.py": ["--arch", "convnet", "--image_size", "16", "--bs", "24", "--rounds", "1"],
    "python benchmarks/kill_and_resume.py": ["--kills", "1", "--n_epochs", "2"],
    "python benchmarks/loader.py": ["--size", "100x80", "--detail", "0.5", "--workers", "0", "--rounds", "1",
                                    "--images", "8"],
    "python benchmarks/scale.py": ["--share", "0.005"],
    "python benchmarks/scaling.py": ["--rounds", "1", "--n_epochs", "2", "--bs", "24", "--image_size", "16",
                                     "--glyphs_classes", "24", "--glyphs_images_per_class", "12"],
    "python benchmarks/startup.py --rounds 3": ["--rounds", "1"],
    "python benchmarks/step.py --networks convnet resnet18 --rounds 9": ["--rounds", "1", "--bs", "24",
                                                                         "--before", "."],
    "python benchmarks/structure.py": [],
}


def plainly(line):
    """A command without its comment, and without the path of Python."""
    return " ".join(words_of(line.replace(".venv/bin/", "")))


def test_every_command_is_run_or_marked():
    shown = {plainly(line) for page in PAGES if page.name not in OF_THEIR_OWN for line in commands(page)}
    run = {*HERE, *OF_THE_REPOSITORY, *BENCHMARKS}
    assert run <= shown
    marks = re.findall(r"`(.+?)`", LEGEND.search((ROOT / "docs" / "README.md").read_text())[0])
    marked = {mark: {line for line in shown if re.search(rf"(?<!\w){re.escape(mark)}(?!\w)", line)} for mark in marks}
    assert sorted(shown - run - TESTS - NAMES - set().union(*marked.values())) == []
    assert all(marked.values()), marked
    assert all((ROOT / test).is_file() for test in OF_THEIR_OWN.values())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the commands name."""
    place = tmp_path_factory.mktemp("commands")
    random = np.random.default_rng(0)
    for label in range(8):
        folder = place / "CLASSES" / f"c{label}"
        folder.mkdir(parents=True)
        for i in range(4):
            Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    for name in ("SOURCE", "PHOTOS", "IMAGES"):
        (place / name).symlink_to("CLASSES")
    (place / "CLIP").mkdir()
    np.save(place / "CLIP" / "features.npy", random.normal(size=(32, 24)).astype(np.float32))
    lines = ["label", *(f"c{i // 4}" for i in range(32))]
    (place / "CLIP" / "labels.csv").write_text("\n".join(lines) + "\n")
    (place / "NEW.npy").symlink_to("CLIP/features.npy")
    (place / "labels.csv").symlink_to("CLIP/labels.csv")
    (place / "FILE").write_text("dataset: image_folder\nsource_path: CLASSES\narch: convnet_normalize\nbs: 12\n"
                                "image_size: 16\nn_epochs: 0\nkernels: 0\ndevice: cpu\nsavename: of-file\n")
    (place / "runs" / "glyphs").mkdir(parents=True)
    (place / "runs" / "glyphs" / "NAME").symlink_to("../image_folder/NAME")
    (place / "runs" / "image_folder").mkdir()
    (place / "runs" / "image_folder" / "best").symlink_to("NAME")
    (place / "RUN").symlink_to(RUN)
    (place / "RUNS").symlink_to("runs/image_folder")
    (place / "NETWORK").symlink_to(f"{RUN}/last.pt")
    return place


@pytest.mark.slow
def test_the_commands_run_word_for_word(place):
    """But for the words that make them small, from a folder of the user's own."""
    here = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache")}
    for line, more in HERE.items():
        words = words_of(line)
        if words[0] == "DRY_RUN=1":
            words, here = words[1:], here | {"DRY_RUN": "1", "PYTHON": sys.executable}
        words[0] = {"python": sys.executable}.get(words[0], words[0])
        words = [str(ROOT / word) if word == "main.py" or word.startswith("scripts/") else word for word in words]
        run = subprocess.run([*words, *more], cwd=place, env=here, capture_output=True, text=True)
        assert run.returncode == 0, f"{line}\n{run.stdout[-1000:]}{run.stderr[-2000:]}"
        assert run.stdout.strip(), line
    for made in ("metrics.json", "explorer.html", "FOLDER/embeddings.npy", "PHOTOS-rows/embeddings.npy",
                 "HEAD/embeddings.npy", "runs/image_folder/again/last.pt", "runs/image_folder/final/last.pt",
                 f"{RUN}/report.html"):
        assert (place / made).is_file(), made


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository's files with this environment, which `make` takes for its own."""
    copy = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    (copy / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith("."):
            (copy / ".venv" / part.name).symlink_to(part)
    for name in (".installed", ".installed-dev"):
        (copy / ".venv" / name).touch()
    return copy


def run_here(line, more, folder):
    """What a command prints, run in a folder."""
    run = subprocess.run(["env", *words_of(line), *more], cwd=folder, capture_output=True, text=True,
                         env=os.environ | {"PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"})
    assert run.returncode == 0, f"{line}\n{run.stdout[-1000:]}{run.stderr[-2000:]}"
    return run.stdout


@pytest.mark.slow
def test_the_commands_of_the_repository_run(repository):
    made = {line: run_here(line, more, repository) for line, more in OF_THE_REPOSITORY.items()}
    assert "full-method" in made["make demo"]
    [pictures] = repository.glob("runs/demo-*/glyphs/full-method")
    for name in ("gallery", "embedding", "policy", "memory", "progress"):
        assert (pictures / f"{name}.png").is_file(), name
    page = "docs/criteria.md"
    assert (repository / page).read_text() == (ROOT / page).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("line", BENCHMARKS)
def test_the_benchmarks_run_at_a_small_size(line):
    assert run_here(line, BENCHMARKS[line], ROOT).strip()
