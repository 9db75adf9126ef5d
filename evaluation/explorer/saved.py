"""The explorer of saved embeddings: read them, search, and write the page."""
from argparse import Namespace
from itertools import chain
from pathlib import Path

import torch

from datasets.base import ImageList
from datasets.files import within
from evaluation import evaluate, parse_metric
from evaluation.explorer.data import NEIGHBOURS, explore
from evaluation.explorer.page import Heading, write_explorer
from evaluation.metrics.retrieval import relevant
from evaluation.ranking import nearest, searched
from evaluation.report import place_images
from evaluation.run_files import REPORT
from evaluation.score import note_equal_rows, numbered, read_embeddings, read_table
from parameters import search_arguments
from utilities.errors import UsageError
from utilities.files import refuse_input
from utilities.text import counted

METRICS = ("c_recall@1", "c_mAP_r")


def explore_saved(opt: Namespace) -> None:
    """Write the page of the files that the flags name."""
    for name in opt.metrics or ():
        parse_metric(name, "--metrics")
    files = [(opt.embeddings, opt.labels, opt.images)]
    if opt.gallery:
        files.append(opt.gallery)
    embeddings = [read_embeddings(path) for path, _, _ in files]
    out = output_path(opt.out, [Path(folder) for _, _, folder in files])
    lists = image_lists(files, [len(rows) for rows in embeddings])
    refuse_input("--out", opt.out, chain(*(file[:2] for file in files), *(images.paths for images in lists)))
    labels = [torch.tensor(images.labels) for images in lists]
    gallery = {}
    if opt.gallery:
        note_equal_rows(*embeddings)
        gallery = {"gallery": embeddings[1], "gallery_labels": labels[1]}
    search = search_arguments(opt)
    draws = opt.eval_bootstrap
    names = opt.metrics
    if names is None:
        has_pairs = relevant(labels[0], gallery.get("gallery_labels")).any()
        names = METRICS if has_pairs else ()
    metrics = evaluate(embeddings[0], labels[0], names, bootstrap=draws, **gallery, **search)
    rows, others = searched(embeddings[0], gallery.get("gallery"), cosine=True)
    depth = min(NEIGHBOURS, len(others) - (not gallery))
    near = nearest(rows, others, depth, exclude_self=not gallery, **search)
    explorer = explore(
        *near,
        lists[0],
        limit=opt.explorer_images,
        gallery=lists[1] if gallery else None,
        places=place_images(rows.given.float(), labels[0], opt.map_images) if opt.map_images else None,
    )
    heading = Heading(
        title=opt.title or Path(opt.embeddings).resolve().parent.name,
        facts=[Path(opt.embeddings).name, counted(embeddings[0].shape[1], "dimension")],
        metrics=metrics,
        back=REPORT if (out.parent / REPORT).is_file() else None,
        root=Path(opt.images),
    )
    print(write_explorer(out, explorer, heading))


def output_path(out: str, folders: list[Path]) -> Path:
    """Where the page goes; UsageError where it cannot, or where a folder does not exist."""
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: there is no such folder; "
                "give the one where the paths of the table begin."
            )
    path = Path(out)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--out {out}: name a file in an existing folder, such as explorer.html.")
    return path


def image_lists(files: list[tuple[str, str, str]], rows: list[int]) -> list[ImageList]:
    """The images of one or two tables, with common class numbers.

    files: embeddings, table and folder of images of each set. Names come from the column `class`,
    where there is one.
    """
    tables = [read_table(path, count, ("path", "label")) for (_, path, _), count in zip(files, rows)]
    labels = [label.tolist() for label in numbered(tables)]
    names = {}
    for table, label in zip(tables, labels):
        for line, number in zip(table, label):
            names[number] = line.get("class") or line["label"]
    class_names = [names[number] for number in sorted(names)]
    lists = []
    for (_, _, folder), table, label in zip(files, tables, labels):
        paths = [image_path(Path(folder), line.get("path")) for line in table]
        lists.append(ImageList(paths, label, class_names))
    return lists


def image_path(folder: Path, name: str | None) -> Path:
    """The image that a table names; UsageError where it lies outside of the folder."""
    path = within(folder, name) if name else None
    if path is None:
        raise UsageError(
            f"The table of {folder} names the image {name!r}; its column path must give each "
            "image, relative to that folder and inside of it."
        )
    return path
