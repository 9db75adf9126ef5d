"""Every command of the documents is run: here, word for word on small data, by another test, or it says why not."""
import os
import re
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
# what a command needs that a test has not, by a pattern of it
NOT_HERE = {
    r"cub200|data/|DATA=data|--source data": "a benchmark's images",
    r"torchvision\.(resnet50|convnext_tiny)": "a download of weights; the same with resnet18 is run",
    r"benchmarks/": "minutes on a quiet machine; tests/benchmarks/test_runs.py tests what they compute",
    r"check_gpu\.sh|toy_cpu\.sh": "minutes; tests/scripts/test_check_gpu.py, tests/scripts/test_table_scripts.py",
    r"^make |pytest|document_criteria": "the repository itself, as CI and tests/test_documents.py have it",
    r"torchrun --nnodes": "several machines; tests/training/test_processes.py runs two agents",
    r"--serve": "a browser; tests/evaluation/test_search_page.py",
    r"^python -m evaluation\.(score|tables)$": "no words: a sentence names the command",
    r"--train_on_all": "a finished run of the user's own; tests/datasets/test_all_classes.py",
    r"sbatch": "SLURM",
}
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
    "DRY_RUN=1 bash scripts/table_cub200.sh": [],
}


def plainly(line):
    """A command without its comment, and without the path of Python."""
    return " ".join(words_of(line.replace(".venv/bin/", "")))


def why_not(line):
    return [reason for pattern, reason in NOT_HERE.items() if re.search(pattern, line)]


def test_every_command_is_run_or_says_what_it_needs():
    shown = {plainly(line) for page in PAGES if page.name not in OF_THEIR_OWN for line in commands(page)}
    assert set(HERE) <= shown
    missing = [line for line in sorted(shown - set(HERE)) if not why_not(line)]
    assert missing == []
    named = " ".join([*OF_THEIR_OWN.values(), *NOT_HERE.values()])
    for test in re.findall(r"tests/[\w/]+\.py", named):
        assert (ROOT / test).is_file(), test


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
                 "HEAD/embeddings.npy", "runs/image_folder/again/last.pt", f"{RUN}/report.html"):
        assert (place / made).is_file(), made
