"""Images added to embeddings that exist, by the network that made them.

Rows and lines are only appended. So the first `rows` of them, as embeddings.json says, are those of
before, whichever of the three files an interrupted call had replaced.
"""
import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets import ImageList
from datasets.embeddings import as_listed
from datasets.folders import find_table
from evaluation.embed.embedder import Embedder
from evaluation.embed.files import COLUMNS, DESCRIPTION, EMBEDDINGS, LABELS, as_text, read_description
from evaluation.embed.unfinished import is_begun, read_work, remove_unfinished
from utilities.cells import plain_text
from utilities.digest import sha256
from utilities.errors import RunError, UsageError
from utilities.labels import plain, refuse_spellings

# in the work of an unfinished call: the rows that there were
BEFORE = "rows before"
# of a label
DIGITS = 7


class Existing(NamedTuple):
    """rows (N, D), the cells of labels.csv of each, and what embeddings.json says."""

    rows: np.ndarray
    lines: list[list[str]]
    description: dict[str, Any]


def read_existing(out: Path) -> Existing:
    """The embeddings in a folder, without what an interrupted call had begun to add.

    Raises UsageError or RunError where there are none, or none that can be added to.
    """
    if not all((out / name).is_file() for name in (EMBEDDINGS, LABELS, DESCRIPTION)):
        raise UsageError(f"--add: {out} holds no embeddings to add to; give their folder by --out, "
                         "or leave the flag out.")
    description = read_description(out)
    if "context" in description:
        raise UsageError(f"--add: the rows of {out} have context, which new images would change; "
                         "embed the images without --eval_context.")
    try:
        number = int(description["rows"])
        if is_begun(out) and read_work(out).get(BEFORE, 0) < number:
            # to remove these was all that was left to do
            remove_unfinished(out)
        rows = np.load(out / EMBEDDINGS, allow_pickle=False)
        lines = _read_lines(out / LABELS)
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        raise _other_files(out) from None
    is_longer = is_begun(out) and min(len(rows), len(lines)) >= number
    is_whole = len(rows) == len(lines) == number
    if is_whole:
        is_whole = is_longer or sha256(out / EMBEDDINGS) == description["embeddings"]
    if not number or not (is_whole or is_longer):
        raise _other_files(out)
    return Existing(rows[:number], lines[:number], description)


def _other_files(out: Path) -> RunError:
    return RunError(f"--add: {EMBEDDINGS} and {LABELS} of {out} are not those that {DESCRIPTION} "
                    "describes; embed all images anew into another --out.")


def _read_lines(path: Path) -> list[list[str]]:
    """The lines of labels.csv after the header; a ValueError where it is no such table."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    if header != COLUMNS:
        raise ValueError(header)
    for _, label, _ in lines:
        if not label.isdecimal() or len(label) > DIGITS:
            raise ValueError(label)
    return lines


def new_images(images: ImageList, source: Path, existing: Existing) -> ImageList:
    """The images of `source` that have no row yet; classes keep their labels, new ones follow.

    Raises UsageError where `source` is not the folder that the rows are of.
    """
    paths = {as_listed(Path(path)) for path, *_ in existing.lines}
    if not any((source / path).exists() for path, *_ in existing.lines):
        raise UsageError(f"--add: {source} does not hold {existing.lines[0][0]}, which is embedded: "
                         "give the folder that was embedded, with the new images in it.")
    if table := find_table(source):
        new = {images.class_names[label] for label in images.labels}
        known = {plain_text(name) for *_, name in existing.lines}
        refuse_spellings([*((name, LABELS) for name in known), *((name, str(table)) for name in new)])
    number_of = {}
    names = {}
    for _, label, name in existing.lines:
        names[int(label)] = plain_text(name)
        number_of[plain(plain_text(name))] = int(label)
    following = max(names) + 1
    added = []
    labels = []
    for path, label in zip(images.paths, images.labels):
        if as_text(path.relative_to(source)) in paths:
            continue
        name = images.class_names[label]
        number = number_of.setdefault(plain(name), following)
        if number == following:
            names[number] = name
            following += 1
        added.append(path)
        labels.append(number)
    class_names = [names.get(number, "") for number in range(following)]
    return ImageList(added, labels, class_names)


def check_network(embedder: Embedder, existing: Existing, out: Path) -> None:
    """A UsageError where another network made the rows."""
    if not set(embedder.digests) & set(existing.description["checkpoint"]["sha256"]):
        raise UsageError(f"--add: {embedder.path} is not the network that made the embeddings of "
                         f"{out}, or has changed; give that one, or embed all images into another "
                         "--out.")
