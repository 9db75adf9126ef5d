"""What the search command does: embed the queries, search, print, draw, or serve the page."""
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from torch import Tensor

from datasets.folders import contents, print_unread
from evaluation.embed.command import report_damaged
from evaluation.embed.embedder import one_set
from evaluation.search.embedded_set import EmbeddedSet
from evaluation.search.nearest import Hit, SearchResult
from evaluation.search.searcher import Searcher
from utilities.errors import RunError, UsageError
from utilities.files import refuse_existing, refuse_place
from utilities.logger import write_json
from utilities.text import counted, printable

# endings that matplotlib draws
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg", ".svgz", ".eps", ".ps", ".tif", ".tiff", ".avif", ".gif")


def run(opt: Namespace) -> None:
    """Embed the queries, search, print, draw; or serve the page."""
    if opt.serve is not None:
        refuse_with_serve(opt)
    else:
        refuse_outputs(opt)
    searcher = Searcher(opt.embeddings, checkpoint=opt.checkpoint, images=opt.images,
                        device=opt.device, eval_context=opt.eval_context,
                        eval_context_power=opt.eval_context_power)
    gallery = searcher.gallery
    if "context" in gallery.description:
        print(f"note: the rows of {gallery.file} have context, which queries are not given.",
              file=sys.stderr)
    if opt.serve is not None:
        from evaluation.search.serve import serve
        serve(searcher, opt.serve, opt.k, opt.min_similarity)
        return
    picture = None if opt.no_picture else picture_path(opt, gallery.file.parent)
    query, paths = embed_all(searcher, opt.queries)
    start = time.perf_counter()
    results = searcher.search(query, paths, opt.k, opt.min_similarity, opt.query_class)
    seconds = time.perf_counter() - start
    for result in results:
        print_result(result)
    context = f" with the context of {counted(opt.eval_context, 'neighbour')}" if opt.eval_context else ""
    print(f"{counted(len(gallery.rows), 'embedding')}{context} searched in {seconds:.3f} s.")
    if opt.json:
        write_json(opt.json, as_json(results, opt, gallery))
        print(f"The hits are in {opt.json}.")
    if picture:
        save_picture(results, gallery, picture)


def refuse_with_serve(opt: Namespace) -> None:
    """A UsageError for what the page does not need."""
    for flag in ("json", "no_picture", "picture", "query_class"):
        if getattr(opt, flag):
            raise UsageError(f"--{flag} is for queries of the command, and --serve takes them from "
                             "the page: leave it out.")
    if opt.queries:
        raise UsageError(f"{opt.queries[0]}: --serve takes queries from the page; leave it out, or "
                         "leave out --serve.")


def refuse_outputs(opt: Namespace) -> None:
    """A UsageError for files that cannot be written, or flags that contradict each other."""
    if "" in opt.queries:
        raise UsageError("A query is an image or a folder, and one of these is empty.")
    if opt.picture and opt.no_picture:
        raise UsageError("--picture and --no_picture contradict each other: leave one of them out.")
    if opt.picture:
        refuse_existing("--picture", opt.picture)
        if Path(opt.picture).suffix.lower() not in PICTURES:
            raise UsageError(f"--picture {opt.picture}: the name must end in one of {', '.join(PICTURES)}.")
    if opt.json:
        refuse_existing("--json", opt.json)
        refuse_place("--json", opt.json)
    if opt.picture and opt.json and Path(opt.picture).resolve() == Path(opt.json).resolve():
        raise UsageError(f"--picture and --json both name {opt.json}: name two files.")


def embed_all(searcher: Searcher, queries: list[str]) -> tuple[Tensor, list[Path]]:
    """Rows (Q, D) and files of the queries, of a folder of all images in it that can be decoded."""
    paths = []
    for query in map(Path, queries):
        paths += images_in(query) if query.is_dir() else [query]
    is_strict = not any(Path(query).is_dir() for query in queries)
    rows = searcher.embed(paths, strict=is_strict)
    is_damaged = rows[:, 0].isinf()  # (Q,)
    report_damaged(one_set(paths), is_damaged.numpy(), strict=False)
    if is_damaged.all():
        raise RunError("None of the queries can be decoded.")
    kept = [path for path, damaged in zip(paths, is_damaged.tolist()) if not damaged]
    return rows[~is_damaged], kept


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, at any depth; what else is there is counted on the terminal."""
    images, others = contents(folder)
    print_unread(folder, others)
    if not images:
        raise UsageError(f"{folder}: there is no such image, nor are there any in a folder of this "
                         "name.")
    return images


def as_json(results: list[SearchResult], opt: Namespace, gallery: EmbeddedSet) -> dict[str, Any]:
    """What --json writes."""
    return {
        "embeddings": str(gallery.file),
        "rows": len(gallery.rows),
        "k": opt.k,
        "min_similarity": opt.min_similarity,
        "eval_context": opt.eval_context,
        "queries": [{
            "path": str(result.path),
            "class": result.class_name,
            "hits": list(map(hit_as_json, result.hits)),
        } for result in results],
    }


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """A hit; "right" is null where the query's class is unknown."""
    return {
        "path": hit.listed,
        "file": str(hit.path),
        "class": hit.class_name,
        "similarity": hit.similarity,
        "right": hit.right,
    }


def print_result(result: SearchResult) -> None:
    """The table of one query."""
    heading = printable(result.path)
    if result.class_name is not None:
        right = sum(hit.right for hit in result.hits)
        heading += (f" ({printable(result.class_name)}): {right} of {len(result.hits)} are of its "
                    "class")
    print(heading)
    if not result.hits:
        print("  no image is as similar as --min_similarity asks")
        return
    names = [printable(hit.class_name) for hit in result.hits]
    width = max(map(len, ["class", *names]))
    print(f"  rank  similarity  {'class':{width}}  path")
    for rank, (hit, name) in enumerate(zip(result.hits, names), start=1):
        print(f"  {rank:4}  {hit.similarity:10.4f}  {name:{width}}  {printable(hit.listed)}")


def picture_path(opt: Namespace, folder: Path) -> Path:
    """A file for the picture that does not exist yet."""
    if opt.picture:
        return Path(opt.picture)
    # that of "." is its folder's name
    stem = Path(opt.queries[0]).resolve().stem
    path = folder / "searches" / f"{stem}.png"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number}.png")
    return path


def save_picture(results: list[SearchResult], gallery: EmbeddedSet, path: Path) -> None:
    """Draw the results, and say where the picture is and which images it lacks."""
    # matplotlib is only imported for a picture
    from evaluation.search.page import QUERIES, draw_results
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
