"""The command: flags first, so that --help and mistakes are answered without pandas."""
from pathlib import Path

from utilities.command_line import Parser, command_parser
from utilities.errors import answer


def build_parser() -> Parser:
    """The flags of the command."""
    parser = command_parser("evaluation.tables", "One table of many runs: mean and standard "
                            "deviation over the seeds, and the paired difference to a baseline.")
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
    add("--expected", metavar="FILE",
        help="Published numbers to show beside the measured: a CSV table with the columns "
             "dataset, row, metric, percent, source, selection.")
    add("--skip_incomplete", action="store_true",
        help="Leave out runs that are unfinished or lack files, with a line for each, instead of "
             "refusing them.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    from evaluation.tables.table import run

    return answer("evaluation.tables", lambda: run(opt), debug=opt.debug)
