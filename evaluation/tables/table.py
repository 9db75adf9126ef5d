"""One table of many runs, from the folders of the runs alone.

Runs that differ in nothing but the seed are one row. Only options.json, result.json and
metrics.csv are read. Lines below the table say what its runs do not have in common.
"""
import sys
from argparse import Namespace
from pathlib import Path

from evaluation.run_files import Run, find_runs, read_run, shortcoming
from evaluation.tables import notes
from evaluation.tables.cells import TableLine, as_csv, table_line, texts
from evaluation.tables.expected import read_expected
from evaluation.tables.rows import TableRow, pick, table_rows, untrained_row
from utilities.cells import latex, markdown, metric_names
from utilities.errors import UsageError
from utilities.metric_names import COSTS
from utilities.registry import lookup
from utilities.text import printable


def run(opt: Namespace) -> None:
    """Read, compare and print."""
    runs, remarks = complete_runs(opt.runs, opt.skip_incomplete)
    rows = table_rows(runs, opt.at, opt.best_by)
    picked = {}
    for pattern in opt.pick:
        rows, picked[pattern], sentence = pick(rows, pattern, opt.best_by)
        remarks.append(sentence)
    listed = [*untrained_row(rows), *rows]
    metrics = chosen_metrics(listed, opt.metrics)
    bases = baselines_of(listed, opt.baseline, picked)
    expected = read_expected(opt.expected) if opt.expected else {}
    lines = [table_line(row, bases.get(row.name), metrics, expected) for row in listed]

    remarks = [notes.epoch_note(rows, opt.at, opt.best_by), *remarks]
    remarks += notes.common_notes(rows, opt.at)
    remarks += notes.lacking_notes(listed, metrics)
    if bases:
        names = [base.name for base in bases.values() if base]
        remarks.append(notes.difference_note(list(dict.fromkeys(names))))
    published = [cell.expected for line in lines for cell in line.cells.values()]
    if expected and not any(published):
        remarks.append(f"{opt.expected} has no number for these rows and metrics.")
    print_table(lines, remarks, opt.format, with_difference=bool(bases))


def complete_runs(places: list[Path], skip: bool) -> tuple[list[Run], list[str]]:
    """The runs in these folders, and with `skip` a remark for each that is incomplete.

    Raises UsageError with all incomplete ones otherwise.
    """
    runs, incomplete = read_runs(places)
    problems = [f"{folder}: {problem}" for folder, problem in incomplete.items()]
    if problems and not skip:
        raise UsageError(f"these cannot stand in the table: {'; '.join(problems)}. Correct the "
                         "path, finish them (main.py --resume), or pass --skip_incomplete to leave "
                         "them out.")
    if not runs:
        raise UsageError(f"there is no finished run: {'; '.join(problems)}.")
    return runs, [f"Left out: {problem}." for problem in problems]


def read_runs(places: list[Path]) -> tuple[list[Run], dict[Path, str]]:
    """The runs in these folders, each once and in this order, and what is wrong with others."""
    runs = {}
    incomplete = {}
    for place in places:
        folders = find_runs(place)
        if not folders:
            incomplete[place] = "it holds no run" if place.is_dir() else "there is no such folder"
        for folder in folders:
            try:
                run = read_run(folder, with_steps=False)
                problem = shortcoming(run)
            except UsageError:
                problem = "it has no readable options.json"
            if problem:
                incomplete[folder] = problem
            else:
                runs.setdefault(folder.resolve(), run)
    return list(runs.values()), incomplete


def chosen_metrics(rows: list[TableRow], asked: list[str] | None) -> list[str]:
    """The columns: those asked for, or all metrics of the test classes.

    Raises UsageError for a metric that no row has.
    """
    known = dict.fromkeys(name for row in rows for name in metric_names(row.values))
    for name in asked or ():
        lookup(known, name, kind="metric", flag="--metric")
    return asked or [name for name in known if not name.startswith("val_") and name not in COSTS]


def baselines_of(rows: list[TableRow], names: list[str],
                 picked: dict[str, TableRow]) -> dict[str, TableRow | None]:
    """The row to which each row is compared, by name; empty without a baseline.

    Of several baselines it is the one with the longest name that the row's name begins with.
    """
    if not names:
        return {}
    known = {row.name: row for row in rows} | picked
    chosen = [lookup(known, name, kind="row", flag="--baseline") for name in names]
    if len(chosen) == 1:
        return dict.fromkeys((row.name for row in rows), chosen[0])
    chosen.sort(key=lambda base: len(base.name), reverse=True)
    bases = {}
    for row in rows:
        matching = (base for base in chosen if row.name.startswith(base.name))
        bases[row.name] = next(matching, None)
    return bases


def print_table(lines: list[TableLine], notes: list[str], kind: str, *,
                with_difference: bool) -> None:
    """The table and its notes, each on one line: below it, as comments in LaTeX, or on stderr."""
    notes = list(map(printable, notes))
    if kind == "csv":
        print(as_csv(lines))
        print("\n".join(notes), file=sys.stderr)
        return
    rows = {line.row.name: texts(line, with_difference) for line in lines}
    print(latex(rows) if kind == "latex" else markdown(rows) + "\n")
    mark = "%" if kind == "latex" else "*"
    for note in notes:
        print(mark, note)
