"""Images that look alike: `python -m evaluation.search EMBEDDINGS QUERY.jpg [MORE ...] --k 12`.

EMBEDDINGS is a folder of evaluation.embed, or its embeddings.npy. A query is embedded by the
network that made the embeddings, prepared as they were. The command prints a table of rank,
similarity, class and file, and draws a picture of the images.
"""
import sys
from argparse import Namespace

from parameters import add_context_flags, with_context_flags
from utilities.command_line import Parser, command_parser
from utilities.errors import answer
from utilities.lazy import importing
from utilities.ranges import cosine, port, positive_int

# of the page
PORT = 8000


def run(opt: Namespace) -> None:
    """Answer the queries; what this imports loads torch."""
    with importing():
        from evaluation.search import terminal
    terminal.run(opt)


def build_parser(serving: bool = False) -> Parser:
    """The flags of the command; serving: it needs no query."""
    parser = command_parser("evaluation.search", "Find the images nearest to a query.")
    add = parser.add_argument
    add("embeddings", metavar="EMBEDDINGS",
        help="folder that evaluation.embed wrote, or its embeddings.npy")
    add("queries", metavar="QUERY", nargs="*" if serving else "+", help="image to look for, or a folder of them")
    add("--k", type=positive_int, default=12, metavar="IMAGES", help="How many images to find.")
    add("--min_similarity", type=cosine, metavar="X",
        help="Leave out hits of less cosine similarity; default: none (docs/using.md says how to "
             "choose it).")
    add("--serve", type=port, nargs="?", const=PORT, metavar="PORT",
        help="Serve a page for this machine's browser instead, which takes photographs; without a "
             f"number at port {PORT}, 0: any that is free.")
    add("--json", metavar="FILE", help="Write the hits there, too, as JSON.")
    add("--checkpoint", metavar="FILE",
        help="Network for the queries; default: the one that made the embeddings.")
    add("--images", metavar="FOLDER",
        help="Folder that the paths of labels.csv start from; default: the one that was embedded.")
    add("--query_class", metavar="CLASS",
        help="Class of the queries, to mark hits and misses; default: known only of images that "
             "are among the embeddings.")
    add("--picture", metavar="FILE",
        help="Where the picture is written; default: in the folder `searches` of the embeddings.")
    add("--no_picture", action="store_true", help="Draw nothing.")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"],
        help="Where to embed the queries.")
    add_context_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for wrong usage, 1 for what failed while running."""
    words = sys.argv[1:] if argv is None else argv
    serving = any(word.partition("=")[0] == "--serve" for word in words)
    opt = with_context_flags(build_parser(serving), argv)
    return answer("evaluation.search", lambda: run(opt), debug=opt.debug)
