"""One table of many runs, from the folders of the runs alone.

Runs that differ in nothing but the seed are one row. Only options.json, result.json and
metrics.csv are read. Lines below the table say what its runs do not have in common.
"""
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.run_files import Run, find_runs, read_run, shortcoming
from utilities.cells import latex, markdown, metric_names
from utilities.command_line import Formatter, Parser
from utilities.errors import UsageError, answer
from utilities.registry import lookup

if TYPE_CHECKING:
    from evaluation.tables.cells import TableLine
    from evaluation.tables.rows import TableRow


def run(opt: Namespace) -> None:
    """Read, compare and print."""
    # pandas: after the flags are parsed, so that --help and mistakes are answered at once
    from evaluation.tables import notes
    from evaluation.tables.cells import table_line
    from evaluation.tables.expected import read_expected
    from evaluation.tables.rows import pick, table_rows, untrained_row

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
        raise UsageError(f"these cannot stand in the table: {'; '.join(problems)}. Finish them "
                         "(main.py --resume), or pass --skip_incomplete to leave them out.")
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


def chosen_metrics(rows: "list[TableRow]", asked: list[str] | None) -> list[str]:
    """The columns: those asked for, or all metrics of the test classes.

    Raises UsageError for a metric that no row has.
    """
    known = dict.fromkeys(name for row in rows for name in metric_names(row.values))
    for name in asked or ():
        lookup(known, name, kind="metric", flag="--metric")
    return asked or [name for name in known if not name.startswith("val_")]


def baselines_of(rows: "list[TableRow]", names: list[str],
                 picked: "dict[str, TableRow]") -> "dict[str, TableRow | None]":
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


def print_table(lines: "list[TableLine]", notes: list[str], kind: str, *,
                with_difference: bool) -> None:
    """The table and its notes: below it, as comments in LaTeX, and on stderr for CSV."""
    from evaluation.tables.cells import as_csv, texts

    if kind == "csv":
        print(as_csv(lines))
        print("\n".join(notes), file=sys.stderr)
        return
    rows = {line.row.name: texts(line, with_difference) for line in lines}
    print(latex(rows) if kind == "latex" else markdown(rows) + "\n")
    mark = "%" if kind == "latex" else "*"
    for note in notes:
        print(mark, note)


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.tables", formatter_class=Formatter,
                    allow_abbrev=False,
                    description="One table of many runs: mean and standard deviation over the "
                                "seeds, and the paired difference to a baseline.")
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUNS",
        help="folder of a run, or a folder that holds runs at any depth")
    add("--format", default="markdown", choices=["markdown", "latex", "csv"],
        help="'csv' has all digits, shares from 0 to 1; the others show percent.")
    add("--metric", "--metrics", dest="metrics", nargs="+", metavar="METRIC",
        help="Columns, in this order; val_METRIC is that of the validation classes. Default: all "
             "of the test classes.")
    add("--baseline", nargs="+", default=[], metavar="NAME",
        help="Row that the others are compared with over the seeds in common. With several names "
             "each row is compared with the longest that its own name begins with.")
    add("--at", default="last", choices=["last", "best"],
        help="Epoch of the values; 'best': the one that the validation classes have chosen, or, "
             "in runs without --use_tv_split, the test classes; a note says which.")
    add("--best_by", default="e_recall@1", metavar="METRIC",
        help="Metric that chooses, for --at best and --pick.")
    add("--pick", action="extend", nargs="+", default=[], metavar="PATTERN",
        help="Of the rows whose name matches, such as 'constant-*', keep the best on the "
             "validation classes. --baseline takes the pattern too.")
    add("--expected", default=None, metavar="FILE",
        help="Published numbers to show beside the measured: a CSV table with the columns "
             "dataset, row, metric, percent, source, selection.")
    add("--skip_incomplete", action="store_true",
        help="Leave out runs that are unfinished or lack files, with a line for each, instead of "
             "refusing them.")
    add("--debug", action="store_true",
        help="Show the traceback of an error instead of one sentence.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    return answer("evaluation.tables", lambda: run(opt), debug=opt.debug)
