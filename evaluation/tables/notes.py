"""The lines below a table: what its rows do not have in common."""
import re
from typing import Any

from evaluation.run_files import Run, continuations
from evaluation.tables.flags import run_name
from evaluation.tables.rows import TableRow, best_entry, flags_of
from utilities.files import section
from utilities.tested import SEEN, tested_on
from utilities.text import counted, printable

COMMIT = re.compile("[0-9a-f]{40}")

# what the notes call a fact, and its name in options.json
OF_THE_MACHINE = {
    "Commits": "commit",
    "Devices": "device",
    "Device models": "device_model",
    "Numbers of threads": "threads",
    "Numbers of processes": "processes",
}


def common_notes(rows: list[TableRow], at: str) -> list[str]:
    """What differs within or between rows: seeds, data, steps, code, machine.

    at: the best epoch also depends on how often there was a choice.
    """
    runs = [run for row in rows for run in row.runs.values()]
    packages = sorted({name for run in runs for name in section(run.options, "versions")})
    labels = ["Data sets", "Steps", *OF_THE_MACHINE, *(f"Versions of {name}" for name in packages)]
    if at == "best":
        labels.append("Epochs between evaluations")
    notes = [seed_note(rows)]
    notes.append(length_note(rows))
    notes.append(seen_note(rows))
    notes += [fact_note(label, rows) for label in labels]
    notes += [namesake_note(row) for row in rows]
    changed = sum(run.options.get("uncommitted_changes") is True for run in runs)
    if changed:
        notes.append(f"{changed} of {counted(len(runs), 'run')} were made with changes to the code that no "
                     "commit holds.")
    return [note for note in notes if note]


def facts_of(run: Run) -> dict[str, Any]:
    """What the runs of a table should have in common."""
    facts = {
        "Data sets": run.flags.get("dataset"),
        "Steps": run.result.get("steps"),
        "Epochs between evaluations": run.flags.get("eval_every"),
    }
    facts |= {label: over_time(run, name) for label, name in OF_THE_MACHINE.items()}
    versions = section(run.options, "versions")
    return facts | {f"Versions of {name}": value for name, value in versions.items()}


def over_time(run: Run, name: str) -> Any:
    """A fact of options.json; where the run was continued, those of its continuations too."""
    values = [run.options.get(name)]
    values += [entry.get(name) for entry in continuations(run.options)]
    different = dict.fromkeys(map(_short, values))
    return " then ".join(different) if len(different) > 1 else values[0]


def length_note(rows: list[TableRow]) -> str | None:
    """The rows that would be one if their runs were of one length."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        first = next(iter(row.runs.values()))
        flags = {flag: str(value) for flag, value in flags_of(first).items() if flag != "n_epochs"}
        length = f"{row.name}: {counted(first.epochs, 'epoch')}, {first.result.get('steps')} steps"
        alike.setdefault(str([run_name(first), sorted(flags.items())]), []).append(length)
    parts = ["; ".join(lengths) for lengths in alike.values() if len(lengths) > 1]
    if not parts:
        return None
    return ("Runs of different length are not averaged, and stand in rows of their own "
            f"({'; '.join(parts)}).")


def seen_note(rows: list[TableRow]) -> str | None:
    """The rows whose metrics say nothing of new classes."""
    names = [row.name for row in rows if tested_on(row.flags) == SEEN]
    return f"Measured on {SEEN}: {', '.join(names)}." if names else None


def seed_note(rows: list[TableRow]) -> str | None:
    """Which seeds each row has, where they differ."""
    seeds = {row.name: " ".join(map(str, sorted(row.runs))) for row in rows}
    note = _difference("Seeds", seeds)
    return note and f"{note} Means are over a row's own seeds."


def fact_note(label: str, rows: list[TableRow]) -> str | None:
    """The values of a fact, each with its rows, or where a row has several with its seeds."""
    value_of = {}
    for row in rows:
        by_seed = {seed: _short(facts_of(run).get(label)) for seed, run in sorted(row.runs.items())}
        holders = _holders(by_seed)
        for value, seeds in holders.items():
            which = f" seed {' '.join(map(str, seeds))}" if len(holders) > 1 else ""
            value_of[row.name + which] = value
    return _difference(label, value_of)


def namesake_note(row: TableRow) -> str | None:
    """The names of the runs in a row, where they have several, since their flags are equal."""
    names = dict.fromkeys(run_name(run) for run in row.runs.values())
    if len(names) == 1:
        return None
    return (f"{row.name} holds runs of the names {', '.join(names)}, whose flags are the same but "
            "for the seed.")


def lacking_notes(rows: list[TableRow], metrics: list[str]) -> list[str]:
    """The rows in which only some runs have a metric; it is then not shown."""
    notes = []
    for row in rows:
        for metric in metrics:
            seeds = row.having(metric).index
            if 0 < len(seeds) < len(row.runs):
                notes.append(f"{row.name}: only the runs of seed {' '.join(map(str, seeds))} have "
                             f"{metric}.")
    return notes


def epoch_note(rows: list[TableRow], at: str, best_by: str) -> str:
    """Which epoch the values are of, and which classes have chosen it."""
    if at == "last":
        return "Values of the last epoch."
    by_validation = []
    by_test = []
    for row in rows:
        entries = [best_entry(run, best_by) for run in row.runs.values()]
        chosen_by_validation = {entry.get("chosen_on") == "val" for entry in entries}
        if True in chosen_by_validation:
            by_validation.append(row.name)
        if False in chosen_by_validation:
            by_test.append(row.name)
    parts = []
    for names, words in (
            (by_validation, "on the validation classes, reported on the test classes"),
            (by_test, "on the test classes themselves, which reads too high")):
        if names:
            both = by_validation and by_test
            parts.append(f"{words} ({', '.join(names)})" if both else words)
    return f"Values of the best epoch by {best_by}, chosen {'; '.join(parts)}."


def difference_note(baselines: list[str]) -> str:
    """How to read the differences."""
    base = (baselines[0] if len(baselines) == 1 else
            f"the one of {', '.join(baselines)} whose name the row begins with")
    return (f"Δ: difference to {base} over the seeds in common, mean [95 % interval, Student's "
            "t], and in how many of them the row is better (dists@intra, fnmr, rho_spectrum, "
            "time and memory: lower; else higher).")


def _difference(label: str, value_of: dict[str, str]) -> str | None:
    """'Steps differ: 800 (a, b); 400 (c).'; None where all have the same value."""
    holders = _holders(value_of)
    if len(holders) == 1:
        return None
    parts = [f"{value} ({', '.join(names)})" for value, names in holders.items()]
    return f"{label} differ: {'; '.join(parts)}."


def _holders(value_of: dict[Any, str]) -> dict[str, list]:
    """Each value with the keys that have it."""
    holders: dict[str, list] = {}
    for key, value in value_of.items():
        holders.setdefault(value, []).append(key)
    return holders


def _short(value: Any) -> str:
    if value is None:
        return "unknown"
    text = str(value)
    return printable(text)[:12 if COMMIT.fullmatch(text) else 60]
