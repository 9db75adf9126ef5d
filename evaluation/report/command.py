"""`python -m evaluation.report RUN` writes RUN/report.html from the files of the run's folder."""
from pathlib import Path

from utilities.command_line import Parser, command_parser
from utilities.errors import answer


def build_parser() -> Parser:
    """The flags of the command."""
    description = "One self-contained page about a run, made from the files of its folder."
    parser = command_parser("evaluation.report", description)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                        help="folder of a run, finished or not")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 for success, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)

    def command() -> None:
        from evaluation.report import write_report
        for folder in opt.runs:
            print(write_report(folder))
    return answer("evaluation.report", command, debug=opt.debug)
