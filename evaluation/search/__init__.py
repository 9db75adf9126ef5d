"""Images that look alike: `python -m evaluation.search EMBEDDINGS QUERY.jpg [MORE ...] --k 12`.

EMBEDDINGS is a folder of evaluation.embed, its embeddings.npy, or an index in it (`index-flat`, `index-ivf`,
`index-hnsw`), which is built on first use or by --build. A query is embedded by the network that made the embeddings,
prepared as they were. Printed is a table of rank, similarity, class and file; a picture shows the images.
"""
import sys
import time
from argparse import Namespace
from pathlib import Path

from evaluation.search.embedded_set import EmbeddedSet, Found, embed_queries, find, locate, network_of, read_set
from evaluation.search.index import KINDS, Settings, open_index
from evaluation.search.page import QUERIES, draw_found
from utilities.command_line import Formatter, Parser, positive_int
from utilities.device import choose_device
from utilities.errors import RunError, UsageError, answer

FLAGS_OF = {"ivf": ("ivf_lists", "ivf_probes"), "hnsw": ("hnsw_links", "hnsw_build", "hnsw_search")}


def run(opt: Namespace) -> None:
    """Build or read the index, embed the queries, search, print, draw."""
    file, kind = locate(opt.embeddings)
    if kind and opt.index not in (None, kind):
        raise UsageError(f"--index {opt.index}: {opt.embeddings} is an index of kind {kind}; leave --index out, or "
                         "give the folder of the embeddings.")
    kind = opt.index or kind or "flat"
    settings = settings_of(opt, kind)
    if not opt.queries and not opt.build:
        raise UsageError("There is nothing to search for: give images, or --build to build the index only.")
    place = None if opt.no_picture or not opt.queries else picture_place(opt, file.parent)
    found = read_set(file, opt.images)
    index, said = open_index(kind, file.parent / f"index-{kind}", found.rows, found.digest, settings, anew=opt.build)
    if said:
        print(said)
    if not opt.queries:
        return
    paths = [Path(path) for path in opt.queries]
    query = embed_queries(network_of(found, opt.checkpoint, choose_device(opt.device)), paths)
    start = time.perf_counter()
    answers = find(found, index, query, paths, opt.k, opt.query_class)
    seconds = time.perf_counter() - start
    for one in answers:
        print_answer(one)
    print(f"{len(found.rows)} embeddings searched in {seconds:.3f} s ({kind}).")
    if place:
        save_picture(answers, found, kind, place)


def settings_of(opt: Namespace, kind: str) -> Settings:
    """The flags of this kind of index; a UsageError for one of another kind."""
    for other, flags in FLAGS_OF.items():
        if other != kind and (given := [flag for flag in flags if getattr(opt, flag) is not None]):
            raise UsageError(f"--{given[0]} has no effect with --index {kind}: pass --index {other}.")
    names = {flag.split("_")[1]: getattr(opt, flag) for flag in FLAGS_OF.get(kind, ())}
    return Settings(**{name: value for name, value in names.items() if value is not None})


def print_answer(one: Found) -> None:
    """The table of one query."""
    right = sum(hit.right is True for hit in one.hits)
    known = "" if one.name is None else f" ({printable(one.name)}): {right} of {len(one.hits)} are of its class"
    print(f"{printable(one.path)}{known}")
    width = max([len("class"), *(len(printable(hit.name)) for hit in one.hits)])
    print(f"  rank  similarity  {'class':{width}}  path")
    for rank, hit in enumerate(one.hits, start=1):
        print(f"  {rank:4}  {hit.similarity:10.4f}  {printable(hit.name):{width}}  {printable(hit.listed)}")


def printable(text: str | Path) -> str:
    """A name from a file as a terminal may show it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def picture_place(opt: Namespace, folder: Path) -> Path:
    """The file for the picture, which is not there yet."""
    if opt.picture:
        if Path(opt.picture).exists():
            raise UsageError(f"--picture {opt.picture} is there already and is never overwritten; name another file.")
        return Path(opt.picture)
    stem = Path(opt.queries[0]).stem
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.png" for number in range(1, sys.maxsize))
    return next(place for name in names if not (place := folder / "searches" / name).exists())


def save_picture(answers: list[Found], found: EmbeddedSet, kind: str, place: Path) -> None:
    """Draw what was found."""
    headline = f"The {'' if kind == 'flat' else 'almost '}nearest of {len(found.rows):,} images"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        unreadable = draw_found(answers, headline, place)
    except (OSError, ValueError) as error:   # ValueError: an ending that is no picture's
        raise RunError(f"{place}: the picture cannot be written there ({error}); name another file by --picture, or "
                       "pass --no_picture.") from None
    if unreadable:
        print(f"{len(unreadable)} images cannot be shown, the first: {unreadable[0]} Pass --images where they have "
              "moved.", file=sys.stderr)
    more = f", of the first {QUERIES} queries" if len(answers) > QUERIES else ""
    print(f"The picture is {place}{more}.")


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.search", formatter_class=Formatter, allow_abbrev=False,
                    description="Find the images nearest to a query.")
    add = parser.add_argument
    add("embeddings", metavar="EMBEDDINGS", help="folder that evaluation.embed wrote, its embeddings.npy, or an index")
    add("queries", metavar="QUERY", nargs="*", help="image to look for")
    add("--k", type=positive_int, default=12, metavar="IMAGES", help="How many images to find.")
    add("--index", default=None, choices=list(KINDS), help="flat (default): exact. ivf, hnsw: approximate, faster.")
    add("--build", action="store_true", help="Build the index anew, also without any query.")
    add("--ivf_lists", type=positive_int, default=None, metavar="N",
        help="Groups of an ivf index; default: 4 sqrt(embeddings).")
    add("--ivf_probes", type=positive_int, default=None, metavar="N",
        help=f"Groups that a search looks through; default: {Settings().probes}.")
    add("--hnsw_links", type=positive_int, default=None, metavar="N", help="Links of each row; default: 32.")
    add("--hnsw_build", type=positive_int, default=None, metavar="N", help="Candidates while building; default: 80.")
    add("--hnsw_search", type=positive_int, default=None, metavar="N",
        help=f"Candidates while searching; default: {Settings().search}.")
    add("--checkpoint", default=None, metavar="FILE",
        help="Network for the queries; default: that which made the embeddings.")
    add("--images", default=None, metavar="FOLDER",
        help="Folder that the paths of labels.csv start from; default: where the images were embedded from.")
    add("--query_class", default=None, metavar="CLASS",
        help="Class of the queries, to mark hits and misses; known anyway of images that are among the embeddings.")
    add("--picture", default=None, metavar="FILE",
        help="Where the picture is written; default: in the folder `searches` of the embeddings.")
    add("--no_picture", action="store_true", help="Draw nothing.")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"], help="Where to embed the queries.")
    add("--debug", action="store_true", help="Show the traceback of an error instead of one sentence.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    return answer("evaluation.search", lambda: run(opt), debug=opt.debug)
