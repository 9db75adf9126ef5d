"""The rows of a table: runs that differ in nothing but the seed, and what each has measured."""
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from evaluation.run_files import Run, row_numbers
from evaluation.tables.flags import row_flags, run_name
from utilities.cells import shown
from utilities.errors import UsageError
from utilities.flags import value_as_typed
from utilities.metric_names import COSTS, is_lower_better
from utilities.text import counted, printable

# what decides the network before training, and the images that it is evaluated on; with _ at its end:
# all flags that begin so
OF_THE_START = (
    "dataset", "train_on_all", "test_by_images", "glyphs_", "arch", "embed_dim", "pooling",
    "feature_norm", "not_pretrained", "weights", "checkpoint", "image_size", "crop_size", "input_",
    "relation", "memory", "memory_decode", "memory_couplings", "memory_hidden", "memory_levels",
    "memory_steps", "memory_channels", "memory_samples", "memory_temperature", "eval_context",
    "eval_context_power", "amp", "cache", "projection_init",
)
# what decides the training images, from which principal components come
OF_THE_COMPONENTS = ("use_tv_split", "tv_split_perc", "tv_split_by_samples")


@dataclass(eq=False)
class TableRow:
    """Runs that differ in nothing but the seed, by seed; values: (seeds, metrics)."""

    name: str
    runs: dict[int, Run]
    values: pd.DataFrame

    @property
    def flags(self) -> dict[str, Any]:
        """The flags of the first run."""
        return next(iter(self.runs.values())).flags

    def of(self, metric: str) -> pd.Series:
        """A metric by seed; empty where some run lacks it, so that no mean hides it."""
        having = self.having(metric)
        return having if len(having) == len(self.runs) else having.iloc[:0]

    def having(self, metric: str) -> pd.Series:
        """A metric by seed, of the runs that have it."""
        if metric not in self.values:
            return pd.Series(dtype=float)
        return self.values[metric].dropna()


def table_rows(runs: list[Run], at: str, best_by: str) -> list[TableRow]:
    """The rows of these runs, in the order of appearance. at, best_by: see `values_of`."""
    groups = group_by_flags(runs)
    names = row_names([next(iter(group.values())) for group in groups])
    rows = []
    for name, group in zip(names, groups):
        values = [values_of(run, at, best_by) for run in group.values()]
        rows.append(TableRow(name, group, pd.DataFrame(values, index=list(group))))
    return rows


def group_by_flags(runs: list[Run]) -> list[dict[int, Run]]:
    """Runs of equal flags and length, by seed; a UsageError where two have the same seed too."""
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        key = json.dumps([flags_of(run), own_steps(run)], sort_keys=True)
        seed = run.flags["seed"]
        twin = groups.setdefault(key, {}).setdefault(seed, run)
        if twin is not run:
            raise UsageError(f"{twin.folder} and {run.folder} have the same flags and the same "
                             f"seed {seed}, and would count twice: name one of them.")
    return list(groups.values())


def own_steps(run: Run) -> int | None:
    """The steps that a row's runs have in common. None where each seed has its own training images,
    of which an epoch is as many steps as they fill."""
    flags = run.flags
    if flags.get("use_tv_split") and run.epochs is not None and not flags.get("steps_per_epoch"):
        return None
    return run.result.get("steps")


def flags_of(run: Run) -> dict[str, Any]:
    """The flags that make a row, with the epochs that were trained: older versions did not record it
    when a run was continued to more."""
    flags = row_flags(run.flags)
    return flags if run.epochs is None else flags | {"n_epochs": run.epochs}


def row_names(runs: list[Run]) -> list[str]:
    """A name for each row, given one run of each; flags that differ distinguish equal names, or
    where none does the steps."""
    names = told_apart([run_name(run) for run in runs], [flag_texts(run) for run in runs])
    return told_apart(names, [{"steps": str(run.result.get("steps"))} for run in runs])


def told_apart(names: list[str], texts: list[dict[str, str]]) -> list[str]:
    """The names, equal ones with the texts in which they differ."""
    flags = pd.DataFrame(texts).fillna("-")
    is_differing = flags.groupby(pd.Index(names)).nunique() > 1  # (names, flags)
    found = []
    for name, (_, own) in zip(names, flags.iterrows()):
        words = [f"{flag} {own[flag]}" for flag in flags if is_differing.at[name, flag]]
        found.append(f"{name} ({printable(', '.join(words))})" if words else name)
    return found


def flag_texts(run: Run) -> dict[str, str]:
    """The flags that make a row, as they are typed."""
    return {flag: value_as_typed(value) for flag, value in flags_of(run).items()}


def values_of(run: Run, at: str, best_by: str) -> dict[str, float]:
    """The metrics of the last epoch (at 'last'), or of the best one by the metric best_by.

    Those of the validation classes, if there are any, begin with val_. With them what the run costs.
    """
    if at == "last":
        metrics = run.result["final"]
        epoch = run.history[-1].get("epoch")
    else:
        entry = best_entry(run, best_by)
        metrics = row_numbers(entry["metrics"])
        epoch = entry.get("epoch")
    row = next((row for row in run.history if row.get("epoch") == epoch), {})
    costs = row_numbers({name: run.result.get(name) for name in COSTS})
    return metrics | costs | {name: value for name, value in row.items() if name.startswith("val_")}


def best_entry(run: Run, metric: str) -> dict[str, Any]:
    """What result.json says of the best epoch by a metric; a UsageError if it was not kept."""
    kept = run.best
    if metric not in kept:
        raise UsageError(f"--best_by {metric}: {run.folder} has no best epoch by it, but by: "
                         f"{printable(', '.join(kept)) or 'nothing'}. Choose one of these; runs to "
                         "come keep those of --storage_metrics.")
    return kept[metric]


def untrained_row(rows: list[TableRow]) -> list[TableRow]:
    """The networks before training by seed, if those of all rows start alike.

    Of a seed that several rows have, the run whose folder's name comes first gives the values,
    whatever the order of the rows.
    """
    if len({start_of(row) for row in rows}) > 1:
        return []
    of_all = [(seed, run) for row in rows for seed, run in row.runs.items()]
    of_all.sort(key=lambda pair: (pair[0], str(pair[1].folder)))
    runs: dict[int, Run] = {}
    values: dict[int, dict] = {}
    for seed, run in of_all:
        runs.setdefault(seed, run)
        values[seed] = run.result["untrained"] | values.get(seed, {})
    name = "untrained network"
    if any(row.name == name for row in rows):
        name += " (before training)"
    return [TableRow(name, runs, pd.DataFrame(list(values.values()), index=list(runs)))]


def start_of(row: TableRow) -> str:
    """The flags from which the untrained network and its metrics follow."""
    all_flags = row_flags(row.flags)
    names = (*OF_THE_START, "source_path")
    # older runs have no such flag
    if all_flags.setdefault("projection_init", "random") == "pca":
        names += OF_THE_COMPONENTS
    # the others change training images alone
    if all_flags.get("augmentation") == "big":
        names += ("augmentation",)
    prefixes = tuple(name for name in OF_THE_START if name.endswith("_"))
    flags = {flag: value for flag, value in all_flags.items()
             if flag in names or flag.startswith(prefixes)}
    return json.dumps(flags, sort_keys=True)


def pick(rows: list[TableRow], pattern: str, metric: str) -> tuple[list[TableRow], TableRow, str]:
    """Of the rows whose name matches, keep the best on the validation classes.

    Returns the rows that stay, the one that was picked, and a sentence about the choice. The test
    classes have no part in it.
    """
    candidates = [row for row in rows if fnmatchcase(row.name, pattern)]
    if not candidates:
        raise UsageError(f"--pick {pattern}: no row has such a name. There are: "
                         f"{', '.join(row.name for row in rows)}.")
    name = f"val_{metric}"
    values = {row.name: row.of(name) for row in candidates}
    for row_name, measured in values.items():
        if measured.empty:
            raise UsageError(f"--pick {pattern}: row {row_name} has no {name} to choose by; its "
                             "runs need --use_tv_split, and the metric among their "
                             "--evaluation_metrics.")
    in_common = pd.concat(values, axis=1, join="inner")  # (seeds, rows)
    if in_common.empty:
        raise UsageError(f"--pick {pattern}: these rows have no seed in common to choose by.")
    means = in_common.mean()
    position = means.argmin() if is_lower_better(metric) else means.argmax()
    best = candidates[position]
    scores = "; ".join(f"{row.name} {shown(metric, means[row.name])}" for row in candidates)
    sentence = (f"{best.name} is the best of {counted(len(candidates), 'row')} {pattern} on the validation "
                f"classes ({name}: {scores}).")
    rest = [row for row in rows if row is best or row not in candidates]
    return rest, best, sentence
