"""Metrics of saved embeddings: `python -m evaluation.score EMBEDDINGS.npy LABELS.csv`.

The files are those of evaluation.embed: (N, D) numbers, and a table with a column `label` and a line for each row.
"""
import csv
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation import evaluate, parse_metric
from parameters import add_search_flags, search_arguments
from parameters import build_parser as build_main_parser
from utilities.cells import metric_table
from utilities.command_line import Formatter, Parser
from utilities.errors import UsageError, answer
from utilities.logger import write_json


def read_embeddings(path: str) -> Tensor:
    """(N, D) float32 from a .npy file; pickled objects are refused."""
    try:
        rows = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; give the embeddings.npy of evaluation.embed.") from None
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path} is not a readable .npy file of numbers ({' '.join(str(error).split())}); give the "
                         "embeddings.npy of evaluation.embed.") from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "fiu":
        shape = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else "several arrays"
        raise UsageError(f"{path} holds {shape}; expected real numbers of shape (N, D), one row an image.")
    return torch.from_numpy(rows.astype(np.float32))                               # (N, D)


def read_table(path: str, rows: int) -> list[dict]:
    """The lines of a table with a column `label`, as many as there are rows of embeddings."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; give the labels.csv of evaluation.embed.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a csv table in UTF-8 ({error}); save it as one.") from None
    if any(not line.get("label") for line in lines):
        raise UsageError(f"{path}: there is no column label, or it is empty in some line; the first line must name the "
                         "columns, such as path,label,class.")
    if len(lines) != rows:
        raise UsageError(f"{path} has {len(lines)} lines for {rows} rows of embeddings; give files of one set.")
    return lines


def numbered(tables: list[list[dict]]) -> list[Tensor]:
    """The labels of one or two tables as common numbers, (N,) each, ascending as the labels do.

    Two sets that were embedded apart number their classes apart: where both have the column `class`, it decides.
    """
    by_name = len(tables) > 1 and all(line.get("class") for table in tables for line in table)
    keys = [[line["class" if by_name else "label"] for line in table] for table in tables]
    names = {key for part in keys for key in part}
    order = sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)
    number = {name: i for i, name in enumerate(order)}
    return [torch.tensor([number[key] for key in part], dtype=torch.long) for part in keys]


def run(opt: Namespace) -> None:
    """Read, evaluate, print, and write where asked to."""
    for name in opt.metrics:
        parse_metric(name)
    files = [(opt.embeddings, opt.labels), *([tuple(opt.gallery)] if opt.gallery else [])]
    rows = [read_embeddings(path) for path, _ in files]
    labels = numbered([read_table(path, len(part)) for (_, path), part in zip(files, rows)])
    apart = {"gallery": rows[1], "gallery_labels": labels[1]} if opt.gallery else {}
    metrics = evaluate(rows[0], labels[0], opt.metrics, bootstrap=opt.eval_bootstrap, **apart, **search_arguments(opt))
    print(metric_table({Path(opt.embeddings).name: metrics}))
    if opt.out:
        write_json(opt.out, metrics)


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.score", formatter_class=Formatter, allow_abbrev=False,
                    description="Metrics of saved embeddings.")
    add = parser.add_argument
    add("embeddings", metavar="EMBEDDINGS.npy", help="numbers of shape (N, D), one row an image")
    add("labels", metavar="LABELS.csv", help="table with a column label, one line an image")
    add("--metrics", nargs="+", default=build_main_parser().get_default("evaluation_metrics"), metavar="METRIC",
        help="As --evaluation_metrics of main.py.")
    add("--gallery", nargs=2, default=None, metavar=("EMBEDDINGS.npy", "LABELS.csv"),
        help="Search in this set instead of among the other rows. Classes are the same where their names in the "
             "column class are (where one table lacks it: their labels).")
    add("--out", default=None, metavar="FILE", help="Write the metrics to this JSON file, all digits.")
    add("--debug", action="store_true", help="Show the traceback of an error instead of one sentence.")
    add_search_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    return answer("evaluation.score", lambda: run(opt), debug=opt.debug)


if __name__ == "__main__":
    sys.exit(main())
