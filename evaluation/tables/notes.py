"""The lines below a table: what its rows do not have in common, so that nothing is averaged silently."""
import re
from collections.abc import Callable
from typing import Any

from evaluation.run_files import Run
from evaluation.tables.rows import Row, best_entry, name_of
from utilities.text import printable

COMMIT = re.compile("[0-9a-f]{40}")

FACTS: dict[str, Callable[[Run], Any]] = {
    "Data sets": lambda run: run.flags.get("dataset"),
    "Steps": lambda run: run.result.get("steps"),
    "Commits": lambda run: run.options.get("commit"),
    "Devices": lambda run: run.options.get("device"),
    "Device models": lambda run: run.options.get("device_model"),
    "Numbers of threads": lambda run: run.options.get("threads"),
    "Numbers of processes": lambda run: run.options.get("processes"),
}


def common_notes(rows: list[Row], at: str) -> list[str]:
    """What differs within or between rows: seeds, data, steps, code, machine; and who has uncommitted code. at: the
    best epoch also depends on how often there was a choice."""
    facts = FACTS | {f"Versions of {name}": (lambda run, name=name: _versions(run).get(name))
                     for name in _packages(rows)}
    if at == "best":
        facts["Epochs between evaluations"] = lambda run: run.flags.get("eval_every")
    notes = [seed_note(rows), *(fact_note(label, fact, rows) for label, fact in facts.items()), *namesake_notes(rows)]
    runs = [run for row in rows for run in row.runs.values()]
    if changed := sum(run.options.get("uncommitted_changes") is True for run in runs):
        notes.append(f"{changed} of {len(runs)} runs were made with changes to the code that no commit holds.")
    return [note for note in notes if note]


def seed_note(rows: list[Row]) -> str | None:
    """Which seeds each row has, where they differ."""
    seeds = {row.name: " ".join(map(str, sorted(row.runs))) for row in rows}
    return _difference("Seeds", seeds, "Means are over a row's own seeds") if len(set(seeds.values())) > 1 else None


def fact_note(label: str, fact: Callable[[Run], Any], rows: list[Row]) -> str | None:
    """The values of a fact with the rows, and where a row has several the seeds, that have them."""
    found = {}
    for row in rows:
        by_seed = {seed: _short(fact(run)) for seed, run in sorted(row.runs.items())}
        for value in dict.fromkeys(by_seed.values()):
            seeds = [str(seed) for seed, own in by_seed.items() if own == value]
            found[row.name if len(seeds) == len(by_seed) else f"{row.name} seed {' '.join(seeds)}"] = value
    return _difference(label, found) if len(set(found.values())) > 1 else None


def namesake_notes(rows: list[Row]) -> list[str]:
    """The rows in which runs of several names stand, since their flags are the same."""
    notes = []
    for row in rows:
        names = dict.fromkeys(name_of(run) for run in row.runs.values())
        if len(names) > 1:
            notes.append(f"{row.name} holds runs of the names {', '.join(names)}, whose flags are the same but for the "
                         "seed.")
    return notes


def lacking_notes(rows: list[Row], metrics: list[str]) -> list[str]:
    """The rows in which some runs have a metric and others do not; it is then not shown."""
    notes = []
    for row in rows:
        for metric in metrics:
            having = [seed for seed, values in row.values.items() if metric in values]
            if 0 < len(having) < len(row.runs):
                notes.append(f"{row.name}: only the runs of seed {' '.join(map(str, having))} have {metric}.")
    return notes


def epoch_note(rows: list[Row], at: str, best_by: str) -> str:
    """Which epoch the values are of, and which classes have chosen it."""
    if at == "last":
        return "Values of the last epoch."
    chosen: dict[bool, list[str]] = {}
    for row in rows:
        for by_validation in {best_entry(run, best_by).get("chosen_on") == "val" for run in row.runs.values()}:
            chosen.setdefault(by_validation, []).append(row.name)
    words = {True: "on the validation classes, reported on the test classes",
             False: "on the test classes themselves, which reads too high"}
    parts = [words[key] + (f" ({', '.join(chosen[key])})" if len(chosen) > 1 else "") for key in sorted(chosen)[::-1]]
    return f"Values of the best epoch by {best_by}, chosen {'; '.join(parts)}."


def difference_note(baselines: list[str]) -> str:
    """How to read the differences."""
    whose = baselines[0] if len(baselines) == 1 else f"the one of {', '.join(baselines)} whose name the row begins with"
    return (f"Δ: difference to {whose} over the seeds in common, mean [95 % interval, Student's t], and in how many of "
            "them the row is better (fnmr: lower; else higher).")


def _difference(label: str, values: dict[str, str], more: str = "") -> str:
    """'Steps differ: 800 (a, b); 400 (c).'"""
    parts = [f"{value} ({', '.join(name for name, own in values.items() if own == value)})"
             for value in dict.fromkeys(values.values())]
    return f"{label} differ: {'; '.join(parts)}." + (f" {more}." if more else "")


def _short(value: Any) -> str:
    if value is None:
        return "unknown"
    return printable(str(value))[:12 if COMMIT.fullmatch(str(value)) else 60]


def _versions(run: Run) -> dict[str, Any]:
    versions = run.options.get("versions")
    return versions if isinstance(versions, dict) else {}


def _packages(rows: list[Row]) -> list[str]:
    return sorted({name for row in rows for run in row.runs.values() for name in _versions(run)})
