"""Images that look alike: `python -m evaluation.search EMBEDDINGS QUERY.jpg [MORE ...] --k 12`.

EMBEDDINGS is a folder of evaluation.embed, or its embeddings.npy. A query is embedded by the
network that made the embeddings, prepared as they were. The command prints a table of rank,
similarity, class and file, and draws a picture of the images.
"""
import sys
import time
from argparse import Namespace
from pathlib import Path

from evaluation.search.embedded_set import EmbeddedSet, read_set
from evaluation.search.nearest import SearchResult, find
from evaluation.search.page import QUERIES, draw_results
from evaluation.search.queries import embed_queries, network_of
from parameters import add_context_flags, with_context_flags
from utilities.command_line import Formatter, Parser
from utilities.device import choose_device
from utilities.errors import RunError, UsageError, answer
from utilities.ranges import positive_int
from utilities.text import counted, printable


def run(opt: Namespace) -> None:
    """Embed the queries, search, print, draw."""
    gallery = read_set(opt.embeddings, opt.images, opt.eval_context, opt.eval_context_power)
    if "context" in gallery.description:
        print(f"note: the rows of {gallery.file} have context, which queries are not given.",
              file=sys.stderr)
    picture = None if opt.no_picture else picture_path(opt, gallery.file.parent)
    paths = [Path(path) for path in opt.queries]
    embedder = network_of(gallery, opt.checkpoint, choose_device(opt.device))
    query = embed_queries(embedder, paths)
    start = time.perf_counter()
    results = find(gallery, query, paths, opt.k, opt.query_class)
    seconds = time.perf_counter() - start
    for result in results:
        print_result(result)
    context = f" with the context of {counted(opt.eval_context, 'neighbour')}" if opt.eval_context else ""
    print(f"{counted(len(gallery.rows), 'embedding')}{context} searched in {seconds:.3f} s.")
    if picture:
        save_picture(results, gallery, picture)


def print_result(result: SearchResult) -> None:
    """The table of one query."""
    heading = printable(result.path)
    if result.class_name is not None:
        right = sum(hit.right for hit in result.hits)
        heading += (f" ({printable(result.class_name)}): {right} of {len(result.hits)} are of its "
                    "class")
    print(heading)
    names = [printable(hit.class_name) for hit in result.hits]
    width = max(map(len, ["class", *names]))
    print(f"  rank  similarity  {'class':{width}}  path")
    for rank, (hit, name) in enumerate(zip(result.hits, names), start=1):
        print(f"  {rank:4}  {hit.similarity:10.4f}  {name:{width}}  {printable(hit.listed)}")


def picture_path(opt: Namespace, folder: Path) -> Path:
    """A file for the picture that does not exist yet."""
    if opt.picture:
        if Path(opt.picture).exists():
            raise UsageError(f"--picture {opt.picture} is there already and is never overwritten; "
                             "name another file.")
        return Path(opt.picture)
    stem = Path(opt.queries[0]).stem
    path = folder / "searches" / f"{stem}.png"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number}.png")
    return path


def save_picture(results: list[SearchResult], gallery: EmbeddedSet, path: Path) -> None:
    """Draw the results, and say where the picture is and which images it lacks."""
    headline = f"The nearest of {counted(len(gallery.rows), 'image')}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unreadable = draw_results(results, headline, path)
    except (OSError, ValueError) as error:  # ValueError: not the ending of a picture
        raise RunError(f"{path}: the picture cannot be written there ({error}); name another file "
                       "by --picture, or pass --no_picture.") from None
    if unreadable:
        print(f"{counted(len(unreadable), 'image')} cannot be shown, the first: {unreadable[0]} Pass --images "
              "where they have moved.", file=sys.stderr)
    shown = f", of the first {QUERIES} queries" if len(results) > QUERIES else ""
    print(f"The picture is {path}{shown}.")


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.search", formatter_class=Formatter,
                    allow_abbrev=False, description="Find the images nearest to a query.")
    add = parser.add_argument
    add("embeddings", metavar="EMBEDDINGS",
        help="folder that evaluation.embed wrote, or its embeddings.npy")
    add("queries", metavar="QUERY", nargs="+", help="image to look for")
    add("--k", type=positive_int, default=12, metavar="IMAGES", help="How many images to find.")
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
    add("--debug", action="store_true",
        help="Show the traceback of an error instead of one sentence.")
    add_context_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for wrong usage, 1 for what failed while running."""
    opt = with_context_flags(build_parser(), argv)
    return answer("evaluation.search", lambda: run(opt), debug=opt.debug)
