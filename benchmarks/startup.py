"""Seconds until a command answers, or until training has taken its first step, against a goal.

    OMP_NUM_THREADS=1 python benchmarks/startup.py [--rounds N] [--folder FOLDER]

import torch        what every command below it needs, nothing of this project
an optimizer        the same and torch.optim's Adam, whose constructor imports torch's compiler
help                main.py --help, search --help
first step          of the built-in data set, from the start of the process until steps.csv has its
                    row; the untrained network is evaluated before. Once with the characters and
                    their cache on the disk, once with neither
search              an answer to one query among 2,880 embedded images, printed, without a picture

Each line is a process of its own. They take turns, N rounds; the least of each counts, as others
may use the machine. "CPU s": those of the processor, in all threads. --folder
keeps the trained network and its embeddings for a later call.
"""
import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.processes import Cost, cost_of  # noqa: E402
from utilities.cells import markdown  # noqa: E402

OPTIMIZER = "import torch; torch.optim.Adam([torch.zeros(1)])"
SEARCH = ["-m", "evaluation.search"]
# seconds; - where there is none
GOALS = {
    "import torch": "-",
    "an optimizer": "-",
    "main.py --help": "0.5",
    "search --help": "0.5",
    "search": "2.0",
    "first step": "6.0",
    "first step, nothing on the disk": "6.0",
}


def training(folder: Path, source: Path, *flags: str) -> list[str]:
    """The words of a run on the built-in data set."""
    return [
        "main.py", "--dataset", "glyphs", "--device", "cpu", "--save_path", str(folder),
        "--savename", "run",
        "--source_path", str(source), "--cache", "disk", "--cache_path", str(source / "cache"),
        "--n_epochs", "1", "--log_every", "1", "--no-figures", *flags,
    ]


def prepare(folder: Path) -> None:
    """A network of one step, and the embeddings of the built-in data set's test images."""
    source = folder / "drawn"
    cost_of(training(folder, source, "--steps_per_epoch", "1"))
    checkpoint = folder / "glyphs" / "run" / "last.pt"
    images = next(source.glob("glyphs-*"))
    cost_of(["-m", "evaluation.embed", str(checkpoint), str(images), "--device", "cpu", "--out",
             str(folder / "embedded"), "--metrics"])


def first_step(folder: Path, source: Path) -> Cost:
    """Until the first step; its run is deleted."""
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        table = Path(runs) / "glyphs" / "run" / "steps.csv"
        return cost_of(training(Path(runs), source), until=table)


def round_of(folder: Path) -> dict[str, Cost]:
    """Every line once."""
    fresh = folder / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    query = str(next(path for path in sorted((folder / "drawn").rglob("*.png"))))
    embedded = str(folder / "embedded")
    return {
        "import torch": cost_of(["-c", "import torch"]),
        "an optimizer": cost_of(["-c", OPTIMIZER]),
        "main.py --help": cost_of(["main.py", "--help"]),
        "search --help": cost_of([*SEARCH, "--help"]),
        "search": cost_of([*SEARCH, embedded, query, "--device", "cpu", "--no_picture"]),
        "first step": first_step(folder, folder / "drawn"),
        "first step, nothing on the disk": first_step(folder, fresh),
    }


def cells_of(costs: list[Cost], goal: str) -> dict[str, str]:
    """The cells of a line: the least of its rounds."""
    seconds = min(cost.seconds for cost in costs)
    cpu_seconds = min(cost.cpu_seconds for cost in costs)
    return {"seconds": f"{seconds:.2f}", "CPU s": f"{cpu_seconds:.2f}", "goal": goal}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds")
    add("--folder", type=Path, help="kept; default: one in the temporary folder, deleted")
    opt = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (opt.folder or Path(temporary)).resolve()
        if not (folder / "embedded").is_dir():
            prepare(folder)
        rounds = [round_of(folder) for _ in range(opt.rounds)]
    cells = {
        name: cells_of([costs[name] for costs in rounds], goal)
        for name, goal in GOALS.items()
    }
    print(markdown(cells))


if __name__ == "__main__":
    main()
