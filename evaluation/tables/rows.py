"""The rows of a table: runs that differ in nothing but the seed, their names, and what each has measured."""
import json
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from evaluation.run_files import Run, row_numbers
from evaluation.tables.paired import LOWER_IS_BETTER
from utilities.cells import shown
from utilities.errors import UsageError
from utilities.text import printable


class Row(NamedTuple):
    """Runs that differ in nothing but the seed, and the metrics of each; both by seed."""

    name: str
    runs: dict[int, Run]
    values: dict[int, dict[str, float]]

    @property
    def flags(self) -> dict[str, Any]:
        """The flags of the first run."""
        return next(iter(self.runs.values())).flags

    def of(self, metric: str) -> dict[int, float]:
        """A metric by seed; empty where some run lacks it, so that no mean hides it."""
        values = {seed: found[metric] for seed, found in self.values.items() if metric in found}
        return values if len(values) == len(self.runs) else {}


def values_of(run: Run, at: str, best_by: str) -> dict[str, float]:
    """The metrics of the last epoch, or of the best one by the metric best_by; those of validation classes, where
    there are some, begin with val_."""
    if at == "last":
        metrics, epoch = run.result["final"], run.history[-1].get("epoch")
    else:
        entry = best_entry(run, best_by)
        metrics, epoch = row_numbers(entry["metrics"]), entry.get("epoch")
    row = next((row for row in run.history if row.get("epoch") == epoch), {})
    return metrics | {name: value for name, value in row.items() if name.startswith("val_")}


def best_entry(run: Run, metric: str) -> dict[str, Any]:
    """What result.json says of the best epoch by a metric; a UsageError where it was not kept."""
    kept = run.result.get("best")
    kept = {name: entry for name, entry in kept.items() if isinstance(entry, dict)
            and isinstance(entry.get("metrics"), dict)} if isinstance(kept, dict) else {}
    if metric not in kept:
        raise UsageError(f"--best_by {metric}: {run.folder} has no best epoch by it, but by: "
                         f"{printable(', '.join(kept)) or 'nothing'}. Choose one of these; runs to come keep those of "
                         "--storage_metrics.")
    return kept[metric]


def grouped(runs: list[Run], left_out: tuple[str, ...]) -> list[dict[int, Run]]:
    """Runs by all flags but those left out, each group by seed, in the order of appearance; a UsageError where two runs
    differ in nothing."""
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        members = groups.setdefault(json.dumps(row_flags(run.flags, left_out), sort_keys=True), {})
        if (seed := run.flags["seed"]) in members:
            raise UsageError(f"{members[seed].folder} and {run.folder} have the same flags and the same seed {seed}, "
                             "and would count twice: name one of them.")
        members[seed] = run
    return list(groups.values())


def row_flags(flags: dict[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    """The flags that are set and make a row; the folder of the images is one of them where nothing else tells the
    data."""
    own = {"source_path"} if flags.get("dataset") == "image_folder" else set()
    return {name: value for name, value in flags.items()
            if value is not None and (name not in left_out or name in own)}


def names_of(groups: list[dict[int, Run]], left_out: tuple[str, ...]) -> list[str]:
    """A name for each group: the savename without its seed, and, where others have the same, the flags that differ."""
    first = [next(iter(group.values())) for group in groups]
    plain = [name_of(run) for run in first]
    return [name + _differing(run.flags, [other.flags for other, same in zip(first, plain) if same == name], left_out)
            for name, run in zip(plain, first)]


def name_of(run: Run) -> str:
    """The name that a run was given, without its seed."""
    flags = run.flags
    name = str(flags.get("savename") or f"{flags.get('recipe')}-{flags.get('loss')}")
    return printable(name.removesuffix(f"-s{flags['seed']}"))


def _differing(flags: dict, namesakes: list[dict], left_out: tuple[str, ...]) -> str:
    """The flags in which those of one name differ, such as ' (lr 0.01)'; nothing where there is only one."""
    rows = [row_flags(other, left_out) for other in namesakes]
    known = dict.fromkeys(flag for row in rows for flag in row)
    differing = [flag for flag in known if any(row.get(flag) != rows[0].get(flag) for row in rows)]
    shown_flags = (f"{flag} {_text(flags.get(flag))}" for flag in differing)
    return f" ({printable(', '.join(shown_flags))})" if differing else ""


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def pick(rows: list[Row], pattern: str, metric: str) -> tuple[list[Row], Row, str]:
    """Of the rows whose name matches, keep the best by the validation classes: all rows that stay, the one picked, and
    a sentence about the choice. The test classes have no part in it."""
    found = [row for row in rows if fnmatchcase(row.name, pattern)]
    if not found:
        raise UsageError(f"--pick {pattern}: no row has such a name. There are: {', '.join(row.name for row in rows)}.")
    name = f"val_{metric}"
    if missing := [row.name for row in found if not row.of(name)]:
        raise UsageError(f"--pick {pattern}: row {missing[0]} has no {name} to choose by; its runs need "
                         "--use_tv_split, and the metric among their --evaluation_metrics.")
    seeds = [seed for seed in found[0].runs if all(seed in row.runs for row in found)]
    if not seeds:
        raise UsageError(f"--pick {pattern}: these rows have no seed in common to choose by.")
    means = {row.name: sum(row.of(name)[seed] for seed in seeds) / len(seeds) for row in found}
    best = (min if metric.startswith(LOWER_IS_BETTER) else max)(found, key=lambda row: means[row.name])
    scores = "; ".join(f"{row.name} {shown(metric, means[row.name])}" for row in found)
    sentence = f"{best.name} is the best of {len(found)} rows {pattern} on the validation classes ({name}: {scores})."
    return [row for row in rows if row is best or row not in found], best, sentence
