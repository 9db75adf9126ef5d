"""A page to explore embeddings: `python -m evaluation.explorer EMBEDDINGS.npy LABELS.csv IMAGES --out FILE.html`.

It shows test images as thumbnails, the nearest neighbours of each, the classes and what they are taken for, and the 2-D
map; it holds everything in itself and asks nothing of any network. A run writes it as explorer.html after training. The
command makes it of the files that evaluation.embed writes, or of any others of their form.
"""
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

from datasets.base import ImageList
from datasets.files import within
from evaluation import evaluate, parse_metric
from evaluation.explorer.atlas import draw_atlas
from evaluation.explorer.data import NEIGHBOURS, explore
from evaluation.explorer.page import Heading, explorer_page
from evaluation.ranking import nearest, searched
from evaluation.report.map import Places, place_images
from evaluation.run_files import EXPLORER, REPORT, read_run
from evaluation.score import numbered, read_embeddings, read_table
from parameters import add_search_flags, search_arguments
from parameters import build_parser as build_main_parser
from utilities.command_line import Formatter, Parser, non_negative_int, positive_int
from utilities.errors import UsageError, answer
from utilities.logger import write_text


def write_explorer(path: Path, similarity: Tensor, index: Tensor, images: ImageList, heading: Heading, *, limit: int,
                   gallery: ImageList | None = None, places: Places | None = None) -> str:
    """Write the page; returns what it holds, in words. similarity, index (N, k), and the rest: see `explore`."""
    known = explore(similarity, index, images, limit=limit, gallery=gallery, places=places)
    atlas = draw_atlas(known.paths)
    text = explorer_page(known, atlas, heading)
    write_text(path, text)
    damaged = f", {len(atlas.unreadable):,} of them unreadable" if atlas.unreadable else ""
    return (f"{len(known.neighbour):,} of {known.total:,} images can be opened, {len(known.paths):,} are shown at "
            f"{atlas.side} pixels{damaged}; {len(text) / 1e6:.1f} MB. Written to {path}")


def write_run_explorer(folder: Path, similarity: Tensor, index: Tensor, images: ImageList, *, limit: int,
                       gallery: ImageList | None, places: Places | None) -> None:
    """explorer.html of a run, whose other files are there."""
    run = read_run(folder)
    heading = Heading(folder.name, run.facts, run.result["final"], REPORT)
    write_explorer(folder / EXPLORER, similarity, index, images, heading, limit=limit, gallery=gallery, places=places)


# ----------------------------------------------------------------------------------------------------- the command


def image_lists(tables: list[list[dict]], folders: list[Path]) -> list[ImageList]:
    """The images of one or two tables, with common class numbers, and names as the column `class` has them, where there
    is one. folders: where the paths of each table begin."""
    labels = numbered(tables)
    names = {number: line.get("class") or line["label"] for table, label in zip(tables, labels)
             for line, number in zip(table, label.tolist())}
    class_names = [names[number] for number in sorted(names)]
    return [ImageList([_file(folder, line) for line in table], label.tolist(), class_names)
            for table, label, folder in zip(tables, labels, folders)]


def _file(folder: Path, line: dict) -> Path:
    """The image of a line."""
    path = within(folder, line["path"]) if line.get("path") else None
    if path is None:
        raise UsageError(f"The table of {folder} names the image {line.get('path')!r}; its column path must give each, "
                         "relative to that folder and inside of it.")
    return path


def run(opt: Namespace) -> None:
    """Read, search, and write the page."""
    for name in opt.metrics:
        parse_metric(name)
    files = [(opt.embeddings, opt.labels, opt.images), *([tuple(opt.gallery)] if opt.gallery else [])]
    sets = [read_embeddings(path) for path, _, _ in files]
    folders = [Path(folder) for _, _, folder in files]
    if absent := [folder for folder in folders if not folder.is_dir()]:
        raise UsageError(f"{absent[0]}: there is no such folder; give the one where the paths of the table begin.")
    out = Path(opt.out)
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"--out {out}: name a file, in a folder that is there, such as explorer.html.")
    images, *galleries = image_lists([read_table(path, len(rows)) for (_, path, _), rows in zip(files, sets)], folders)
    gallery = galleries[0] if galleries else None
    label = torch.tensor(images.labels)
    apart = {"gallery": sets[1], "gallery_labels": torch.tensor(gallery.labels)} if gallery else {}
    metrics = evaluate(sets[0], label, opt.metrics, bootstrap=opt.eval_bootstrap, **apart, **search_arguments(opt))
    rows, among = searched(sets[0], apart.get("gallery"), cosine=True)
    depth = min(NEIGHBOURS, len(among) - (gallery is None))
    found = nearest(rows, among, depth, exclude_self=gallery is None, **search_arguments(opt))
    back = REPORT if (out.parent / REPORT).is_file() else None
    facts = [Path(opt.embeddings).name, f"{rows.shape[1]} dimensions"]
    places = place_images(rows, label, opt.map_images) if opt.map_images else None
    heading = Heading(opt.title or Path(opt.embeddings).resolve().parent.name, facts, metrics, back)
    print(write_explorer(out, *found, images, heading, limit=opt.explorer_images, gallery=gallery, places=places))


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.explorer", formatter_class=Formatter, allow_abbrev=False,
                    description="One self-contained page to explore embeddings: images, neighbours, classes, map.")
    add, of_run = parser.add_argument, build_main_parser().get_default
    add("embeddings", metavar="EMBEDDINGS.npy", help="numbers of shape (N, D), one row an image")
    add("labels", metavar="LABELS.csv", help="table with the columns path and label, one line an image")
    add("images", metavar="IMAGES", help="folder where the paths of the table begin")
    add("--out", required=True, metavar="FILE.html", help="The page to write.")
    add("--gallery", nargs=3, default=None, metavar=("EMBEDDINGS.npy", "LABELS.csv", "IMAGES"),
        help="Search in this set instead of among the other rows; classes are matched as by evaluation.score.")
    add("--title", default=None, help="Heading of the page; default: the folder of the embeddings.")
    add("--metrics", nargs="*", default=["c_recall@1", "c_mAP_r"], metavar="METRIC",
        help="Metrics in its heading, any of those that docs/metrics.md defines, or none.")
    add("--explorer_images", type=positive_int, default=of_run("explorer_images"), metavar="IMAGES",
        help="Images that can be opened; of more, a sample evenly over the classes.")
    add("--map_images", type=non_negative_int, default=of_run("map_images"), metavar="IMAGES",
        help="Images in the 2-D map; 0: no map.")
    add("--debug", action="store_true", help="Show the traceback of an error instead of one sentence.")
    add_search_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    return answer("evaluation.explorer", lambda: run(opt), debug=opt.debug)
