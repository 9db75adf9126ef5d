"""Result tables from the folders of runs: `python -m evaluation.tables RUNS...`.

Runs that differ in nothing but the seed are one row. Only files of the runs are read: options.json, result.json and
metrics.csv. What the runs of a table do not have in common is said below it.
"""
import sys
from argparse import Namespace
from pathlib import Path

from evaluation.run_files import Run, find_runs, read_run, shortcoming
from evaluation.tables.expected import Expected, read_expected
from evaluation.tables.lines import Cell, Line, as_csv, numbers, texts
from evaluation.tables.notes import common_notes, difference_note, epoch_note, lacking_notes
from evaluation.tables.paired import LOWER_IS_BETTER, paired_difference
from evaluation.tables.rows import Row, grouped, names_of, pick, values_of
from utilities.cells import latex, markdown, metric_names
from utilities.command_line import Formatter, Parser
from utilities.errors import UsageError, answer
from utilities.registry import lookup

NOT_PART_OF_THE_ROW = ("seed", "save_path", "savename", "gpu", "device", "kernels", "debug", "log_every", "eval_every",
                       "source_path", "repeat", "tensorboard", "log_online", "project", "group", "resume",
                       "checkpoint_minutes", "cache_path", "decode", "evaluate_only", "json", "evaluation_metrics",
                       "storage_metrics", "evaluate_on_gpu", "search_backend", "search_precision", "eval_block",
                       "eval_bootstrap", "eval_per_class", "figures", "map_images", "map_thumbnails",
                       "explorer_images", "compile", "channels_last", "deterministic", "weights_dir", "list")


# ------------------------------------------------------------------------------------------------ runs and rows


def read_runs(places: list[Path]) -> tuple[list[Run], dict[Path, str]]:
    """The runs in these folders, each once and in this order, and why others cannot stand in a table."""
    runs, incomplete = {}, {}
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


def complete_runs(places: list[Path], skip: bool) -> tuple[list[Run], list[str]]:
    """The runs and, where incomplete ones are to be skipped, a line for each of these; else a UsageError names them."""
    runs, incomplete = read_runs(places)
    found = [f"{folder}: {problem}" for folder, problem in incomplete.items()]
    if found and not skip:
        raise UsageError(f"these cannot stand in the table: {'; '.join(found)}. Finish them (main.py --resume), or "
                         "pass --skip_incomplete to leave them out.")
    if not runs:
        raise UsageError(f"there is no finished run: {'; '.join(found)}.")
    return runs, [f"Left out: {line}." for line in found]


def rows_of(runs: list[Run], at: str, best_by: str) -> list[Row]:
    """The rows of a table, in the order in which the runs are named."""
    groups = grouped(runs, NOT_PART_OF_THE_ROW)
    return [Row(name, group, {seed: values_of(run, at, best_by) for seed, run in group.items()})
            for name, group in zip(names_of(groups, NOT_PART_OF_THE_ROW), groups)]


def untrained_row(rows: list[Row]) -> list[Row]:
    """The networks of the first row before training, where all rows start from such ones on the same data."""
    starts = {str([row.flags.get(flag) for flag in ("dataset", "arch", "embed_dim", "not_pretrained", "checkpoint")])
              for row in rows}
    runs = rows[0].runs
    return [Row("untrained network", runs, {seed: run.result["untrained"] for seed, run in runs.items()})
            ] if len(starts) == 1 else []


def baselines_of(rows: list[Row], names: list[str], picked: dict[str, Row]) -> dict[str, Row | None]:
    """The row to which each row is compared: the one baseline, or of several the longest that its name begins with."""
    known = {row.name: row for row in rows} | picked
    chosen = [lookup(known, name, kind="row", flag="--baseline") for name in names]
    if len(chosen) == 1:
        return dict.fromkeys((row.name for row in rows), chosen[0])
    return {row.name: max((base for base in chosen if row.name.startswith(base.name)), default=None,
                          key=lambda base: len(base.name)) for row in rows}


def cell_of(row: Row, metric: str, base: Row | None, expected: dict[tuple[str, str, str], Expected]) -> Cell:
    """A metric of a row, its difference to the baseline unless it is that itself, and what was published of it."""
    values, difference = row.of(metric), None
    if base is not None and base.name != row.name:
        lower = metric.removeprefix("val_").startswith(LOWER_IS_BETTER)
        difference = paired_difference(values, base.of(metric), lower_is_better=lower)
    return Cell(values, difference, expected.get((row.flags.get("dataset"), row.name, metric)))


def chosen_metrics(rows: list[Row], asked: list[str] | None) -> list[str]:
    """The columns: those asked for, each of which some row must have, or all metrics of the test classes."""
    known = dict.fromkeys(name for row in rows for values in row.values.values() for name in metric_names(values))
    for name in asked or ():
        lookup(known, name, kind="metric", flag="--metric")
    return asked or [name for name in known if not name.startswith("val_")]


# --------------------------------------------------------------------------------------------------- the command


def run(opt: Namespace) -> None:
    """Read, compare and print; notes follow below, as comments in LaTeX and on stderr for CSV."""
    runs, notes = complete_runs(opt.runs, opt.skip_incomplete)
    rows, picked = rows_of(runs, opt.at, opt.best_by), {}
    for pattern in opt.pick:
        rows, picked[pattern], sentence = pick(rows, pattern, opt.best_by)
        notes.append(sentence)
    listed = [*untrained_row(rows), *rows]
    metrics = chosen_metrics(listed, opt.metrics)
    base = baselines_of(listed, opt.baseline, picked) if opt.baseline else {}
    expected = read_expected(opt.expected) if opt.expected else {}
    lines = [Line(row, base.get(row.name), {metric: cell_of(row, metric, base.get(row.name), expected)
                                            for metric in metrics}) for row in listed]
    notes = [epoch_note(rows, opt.at, opt.best_by), *notes, *common_notes(rows, opt.at)]
    notes += lacking_notes(listed, metrics)
    if base:
        notes.append(difference_note(list(dict.fromkeys(row.name for row in base.values() if row))))
    if expected and not any(cell.expected for line in lines for cell in line.cells.values()):
        notes.append(f"{opt.expected} has no number for these rows and metrics.")
    print_table(lines, notes, opt.format, with_difference=bool(base))


def print_table(lines: list[Line], notes: list[str], kind: str, *, with_difference: bool) -> None:
    """The table in one of the formats, and the notes below it."""
    if kind == "csv":
        print(as_csv([numbers(line) for line in lines]))
        print("\n".join(notes), file=sys.stderr)
        return
    rows = {line.row.name: texts(line, with_difference) for line in lines}
    print(latex(rows) if kind == "latex" else markdown(rows) + "\n")
    print("\n".join(("% " if kind == "latex" else "* ") + note for note in notes))


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.tables", formatter_class=Formatter, allow_abbrev=False,
                    description="One table of many runs: mean and standard deviation over the seeds, and the paired "
                                "difference to a baseline.")
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUNS", help="folder of a run, or a folder that holds runs at any depth")
    add("--format", default="markdown", choices=["markdown", "latex", "csv"],
        help="'csv' has all digits, shares from 0 to 1; the others show percent.")
    add("--metric", "--metrics", dest="metrics", nargs="+", metavar="METRIC",
        help="Columns, in this order; val_METRIC is that of the validation classes. Default: all of the test classes.")
    add("--baseline", nargs="+", default=[], metavar="NAME",
        help="Row that the others are compared with over the seeds in common. With several names each row is compared "
             "with the longest that its own name begins with.")
    add("--at", default="last", choices=["last", "best"],
        help="Epoch that the values are of; 'best': the one that the validation classes have chosen, or, in runs "
             "without --use_tv_split, the test classes, which is said.")
    add("--best_by", default="e_recall@1", metavar="METRIC", help="Metric that chooses, for --at best and --pick.")
    add("--pick", action="extend", nargs="+", default=[], metavar="PATTERN",
        help="Of the rows whose name matches, such as 'constant-*', keep the best on the validation classes. "
             "--baseline takes the pattern too.")
    add("--expected", default=None, metavar="FILE",
        help="Published numbers to show beside the measured: a CSV table with the columns dataset, row, metric, "
             "percent, source, selection.")
    add("--skip_incomplete", action="store_true",
        help="Leave out runs that are unfinished or lack files, with a line for each, instead of refusing them.")
    add("--debug", action="store_true", help="Show the traceback of an error instead of one sentence.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    return answer("evaluation.tables", lambda: run(opt), debug=opt.debug)
