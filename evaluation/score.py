"""Metrics of saved embeddings: `python -m evaluation.score EMBEDDINGS.npy LABELS.csv`.

The files are those of evaluation.embed: (N, D) numbers, and a table with a column `label` and a
line for each row.
"""
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.embeddings import numbers_in
from evaluation import evaluate, parse_metric
from evaluation.embed.files import DESCRIPTION, refuse_context
from parameters import (
    add_context_flags,
    add_search_flags,
    evaluation_arguments,
    search_arguments,
    with_context_flags,
)
from parameters import build_parser as build_main_parser
from utilities.cells import metric_table
from utilities.command_line import Parser, command_parser
from utilities.errors import UsageError, answer
from utilities.files import refuse_input, refuse_place
from utilities.labels import Line, read_lines, refuse_spellings, refuse_two_classes
from utilities.logger import write_json
from utilities.text import counted


def read_embeddings(path: str) -> Tensor:
    """(N, D) float32 or float64 from a .npy file; pickled objects and NaN or inf are refused."""
    rows = numbers_in(path, "give the embeddings.npy of evaluation.embed.", "fiu")
    is_finite = np.isfinite(rows).all(1)  # (N,)
    if not is_finite.all():
        raise UsageError(f"{path}: row {is_finite.argmin()} (counted from 0) holds NaN or inf; correct "
                         "it, or leave out the row and its line of the table.")
    is_short = rows.dtype in (np.float16, np.float32)
    return torch.from_numpy(rows.astype(np.float32 if is_short else np.float64, subok=False))  # (N, D)


# Of a label that is taken for a number.
DIGITS = 18


def read_table(path: str, rows: int, needed: Sequence[str] = ("label",)) -> list[Line]:
    """The lines of a table with a column `label`, as many as there are rows of embeddings."""
    lines = read_lines(Path(path), needed, ["class"], "give the labels.csv of evaluation.embed.")
    if len(lines) != rows:
        raise UsageError(f"{path} has {counted(len(lines), 'line')} for {counted(rows, 'row')} of "
                         "embeddings; give files of one set.")
    of_label: dict[str, Line] = {}
    for line in lines:
        refuse_two_classes(of_label.setdefault(line["label"], line), line)
    return lines


def numbered(tables: list[list[Line]]) -> list[Tensor]:
    """The labels of one or two tables as common numbers, (N,) each, ascending as the labels do.

    Two sets may number their classes differently: where both have the column `class`, it decides.
    """
    lines = list(chain.from_iterable(tables))
    by_class = len(tables) > 1 and all("class" in line for line in lines)
    column = "class" if by_class else "label"
    refuse_spellings((line[column], line.where) for line in lines)
    names = {line[column] for line in lines}
    are_numbers = all(name.isdecimal() and len(name) <= DIGITS for name in names)
    order = sorted(names, key=int if are_numbers else None)
    number = {name: i for i, name in enumerate(order)}
    labels = []
    for table in tables:
        values = [number[line[column]] for line in table]
        labels.append(torch.tensor(values, dtype=torch.long))
    return labels


def note_equal_rows(query: Tensor, gallery: Tensor) -> None:
    """Say how many query rows (Q, D) are also in the gallery (N, D), bit for bit."""
    known = {row.tobytes() for row in gallery.double().numpy()}
    inside = sum(row.tobytes() in known for row in query.double().numpy())
    if inside:
        print(f"note: {inside} of {counted(len(query), 'query')} are rows of the gallery too, where each "
              "finds itself; leave them out of one of the two.", file=sys.stderr)


def run(opt: Namespace) -> None:
    """Read, evaluate, print, and write where asked to."""
    for name in opt.metrics:
        parse_metric(name, "--metrics")
    files = [(opt.embeddings, opt.labels)]
    if opt.gallery:
        files.append(opt.gallery)
    if opt.out:
        described = [Path(embeddings).parent / DESCRIPTION for embeddings, _ in files]
        refuse_input("--out", opt.out, chain(*files, described))
        refuse_place("--out", opt.out)
    sets = []
    tables = []
    for embeddings, table in files:
        if opt.eval_context:
            refuse_context(Path(embeddings))
        sets.append(read_embeddings(embeddings))
        tables.append(read_table(table, len(sets[-1])))
    labels = numbered(tables)
    options = evaluation_arguments(opt) | search_arguments(opt)
    if opt.gallery:
        options |= {"gallery": sets[1], "gallery_labels": labels[1]}
        note_equal_rows(*sets)
    metrics = evaluate(sets[0], labels[0], opt.metrics, **options)
    print(metric_table({Path(opt.embeddings).name: metrics}))
    if opt.out:
        write_json(opt.out, metrics)


def build_parser() -> Parser:
    """The flags of the command."""
    parser = command_parser("evaluation.score", "Metrics of saved embeddings.")
    add = parser.add_argument
    default = build_main_parser().get_default("evaluation_metrics")
    add("embeddings", metavar="EMBEDDINGS.npy", help="numbers of shape (N, D), one row an image")
    add("labels", metavar="LABELS.csv", help="table with a column label, one line an image")
    add("--metrics", nargs="+", default=default, metavar="METRIC",
        help="As --evaluation_metrics of main.py.")
    add("--gallery", nargs=2, default=None, metavar=("EMBEDDINGS.npy", "LABELS.csv"),
        help="Search in this set, not in the other rows of the first. Classes are matched by the "
             "column class, or by label where a table has no column class.")
    add("--out", default=None, metavar="FILE",
        help="Write the metrics to this JSON file, all digits.")
    add_search_flags(parser)
    add_context_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 for success, 2 for wrong usage, 1 for an error while running."""
    opt = with_context_flags(build_parser(), argv)
    return answer("evaluation.score", lambda: run(opt), debug=opt.debug)


if __name__ == "__main__":
    sys.exit(main())
