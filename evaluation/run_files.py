"""What the folder of a run holds, read for its report; the files may be unfinished, damaged, or of any origin."""
import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

from utilities.errors import UsageError
from utilities.table import read_rows

OF_A_RUN = ("options.json", "result.json", "metrics.csv", "last.pt")      # a folder with one of these is that of a run
REPORT, EXPLORER = "report.html", "explorer.html"   # the pages of a run, which lead to each other


class Run(NamedTuple):
    """What the folder of a run holds; the metrics in `result` are empty while the run goes on."""

    folder: Path
    options: dict[str, Any]
    result: dict[str, Any]
    history: list[dict[str, float]]        # of metrics.csv
    steps: list[dict[str, float]]          # of steps.csv

    @property
    def flags(self) -> dict[str, Any]:
        """The flags of the run."""
        return self.options["flags"]

    @property
    def metrics(self) -> list[str]:
        """The metrics that it evaluates."""
        return self.names("evaluation_metrics")

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.result["final"])

    @property
    def facts(self) -> list[Any]:
        """What was trained, on what."""
        return [self.flags.get(flag) for flag in ("dataset", "arch", "loss")] + [f"seed {self.flags.get('seed')}"]

    def names(self, flag: str) -> list[str]:
        """The names that a flag lists."""
        value = self.flags.get(flag)
        return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def find_runs(place: Path) -> list[Path]:
    """The folder itself where it is that of a run, else the runs in it at any depth, by name."""
    folders = [place, *(path for path in place.rglob("*") if path.is_dir())]
    runs = [folder for folder in folders if any((folder / name).is_file() for name in OF_A_RUN)]
    return runs[:1] if place in runs else sorted(runs)


def read_run(folder: Path, with_steps: bool = True) -> Run:
    """Read a run; a UsageError where the folder is not that of one. with_steps: steps.csv too."""
    options, result = _json(folder / "options.json"), _json(folder / "result.json")
    if not isinstance(options.get("flags"), dict):
        raise UsageError(f"{folder} is not the folder of a run: it has no readable options.json.")
    history, steps = ([row_numbers(row) for row in table_rows(folder / name)] if wanted else []
                      for name, wanted in (("metrics.csv", True), ("steps.csv", with_steps)))
    for part in ("final", "untrained"):
        result[part] = row_numbers(result[part]) if isinstance(result.get(part), dict) else {}
    return Run(folder, options, result, history, steps)


def shortcoming(run: Run) -> str | None:
    """Why a run cannot stand in a table, or None."""
    last = run.history[-1] if run.history else {}
    if not isinstance(run.flags.get("seed"), int):
        return "its options.json names no seed"
    if not run.finished:
        return f"it has no result: epoch {last.get('epoch', 0):.0f} of {run.flags.get('n_epochs', 'unknown')}"
    if not run.history:
        return "it has no readable metrics.csv"
    if last.get("step") != run.result.get("steps"):
        return (f"its result.json is of step {run.result.get('steps')}, its metrics.csv goes to step "
                f"{last.get('step', 0):.0f}")
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def table_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table, none where it cannot be read."""
    try:
        return read_rows(path)
    except (OSError, csv.Error):
        return []


def row_numbers(row: dict) -> dict[str, float]:
    """The entries that are numbers or the text of one."""
    found = {}
    for name, value in row.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError):
            continue
    return found
