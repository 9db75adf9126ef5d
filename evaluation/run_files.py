"""What the folder of a run holds; the files may be unfinished, damaged, or of any origin."""
import csv
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from utilities.cells import plain_text
from utilities.errors import UsageError
from utilities.files import read_json, section
from utilities.metric_names import reported
from utilities.table import read_rows

# a folder with one of these is that of a run
OF_A_RUN = ("options.json", "result.json", "metrics.csv", "last.pt")
# the pages of a run, which link to each other
REPORT = "report.html"
EXPLORER = "explorer.html"


class Run(NamedTuple):
    """history: the lines of metrics.csv; steps: those of steps.csv.

    The metrics in `result` are empty until the run has finished.
    """

    folder: Path
    options: dict[str, Any]
    result: dict[str, Any]
    history: list[dict[str, float]]
    steps: list[dict[str, float]]

    @property
    def flags(self) -> dict[str, Any]:
        """The flags of the run."""
        return self.options["flags"]

    @property
    def metrics(self) -> list[str]:
        """The metrics that it evaluates."""
        return reported(self.names("evaluation_metrics"), self.flags.get("eval_context"))

    @property
    def finished(self) -> bool:
        """Whether it has come to its end; a run on all classes may have no metrics then."""
        return bool(self.result["final"]) or "tested_on" in self.result

    @property
    def epochs(self) -> int | None:
        """How many epochs it has trained."""
        epoch = self.history[-1].get("epoch", math.nan) if self.history else math.nan
        return int(epoch) if math.isfinite(epoch) else None

    @property
    def best(self) -> dict[str, dict[str, Any]]:
        """The best epoch by each metric; what has another form is left out."""
        entries = section(self.result, "best")
        return {name: entry for name, entry in entries.items()
                if isinstance(entry, dict) and isinstance(entry.get("metrics"), dict)}

    @property
    def facts(self) -> list[Any]:
        """What was trained, on what."""
        facts = [self.flags.get(flag) for flag in ("dataset", "arch", "loss")]
        return [*facts, f"seed {self.flags.get('seed')}"]

    def names(self, flag: str) -> list[str]:
        """The names that a flag lists."""
        value = self.flags.get(flag)
        if not isinstance(value, list):
            return []
        return [name for name in value if isinstance(name, str)]


def find_runs(place: Path) -> list[Path]:
    """The folder itself if it is that of a run, else the runs in it at any depth, by name; links to
    folders are followed."""
    if _is_run(place):
        return [place]
    found = []
    seen = set()  # a link may lead to a folder that it is in
    for folder, inside, _ in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inside.clear()
        elif _is_run(Path(folder)):
            found.append(Path(folder))
        seen.add(real)
        inside.sort()
    return sorted(found)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in OF_A_RUN)


def read_run(folder: Path, with_steps: bool = True) -> Run:
    """Read a run, with_steps: steps.csv too; a UsageError if the folder is not that of a run."""
    options = read_json(folder / "options.json")
    if not isinstance(options.get("flags"), dict):
        raise UsageError(f"{folder} is not the folder of a run: it has no readable options.json.")
    result = read_json(folder / "result.json")
    for part in ("final", "untrained"):
        result[part] = row_numbers(section(result, part))
    history = [row_numbers(row) for row in table_rows(folder / "metrics.csv")]
    steps = table_rows(folder / "steps.csv") if with_steps else []
    return Run(folder, options, result, history, [row_numbers(row) for row in steps])


def shortcoming(run: Run) -> str | None:
    """Why a run cannot stand in a table, or None."""
    last = run.history[-1] if run.history else {}
    if not isinstance(run.flags.get("seed"), int):
        return "its options.json names no seed"
    if not run.finished:
        return (f"it has no result: epoch {last.get('epoch', 0):.0f} of "
                f"{run.flags.get('n_epochs', 'unknown')}")
    if not run.result["final"]:
        return "it was trained on all classes, without a test"
    if run.epochs is None:
        return "it has no readable metrics.csv"
    steps = run.result.get("steps")
    if last.get("step") != steps:
        return (f"its result.json is of step {steps}, its metrics.csv goes to step "
                f"{last.get('step', 0):.0f}")
    epochs = run.flags.get("n_epochs")
    if isinstance(epochs, int) and run.epochs < epochs:
        return f"it goes on to epoch {epochs}, and its result.json is of epoch {run.epochs}"
    return None


def continuations(options: dict[str, Any]) -> list[dict[str, Any]]:
    """What an options.json says of each time that the run was continued."""
    entries = options.get("continuations")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def table_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table; none if it cannot be read."""
    try:
        rows = read_rows(path)
    except (OSError, csv.Error):
        return []
    return [{column: plain_text(cell) for column, cell in row.items()} for row in rows]


def row_numbers(row: dict) -> dict[str, float]:
    """The entries that are numbers or the text of one."""
    numbers = {}
    for name, value in row.items():
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
    return numbers
