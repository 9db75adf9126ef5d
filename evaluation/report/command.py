"""`python -m evaluation.report RUN` writes RUN/report.html from the files of the run's folder."""
from pathlib import Path

from utilities.command_line import Formatter, Parser
from utilities.errors import answer


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="python -m evaluation.report",
        formatter_class=Formatter,
        allow_abbrev=False,
        description="One self-contained page about a run, made from the files of its folder.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, finished or not")
    add("--debug", action="store_true", help="Show the traceback of an error.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 for success, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)

    def command() -> None:
        from evaluation.report import write_report
        for folder in opt.runs:
            print(write_report(folder))
    return answer("evaluation.report", command, debug=opt.debug)
