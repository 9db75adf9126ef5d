"""What lies on disk: lists of images, and in which folder a data set was put."""
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from datasets.base import Splits, split_in_halves
from datasets.folders import images_by_class, within
from utilities.errors import UsageError, reason
from utilities.text import counted

# what to do about a list that is damaged
EXTRACT = "extract the list from the archive again"


def possible_folders(source: Path, folders: Sequence[str]) -> list[Path]:
    """Where a data set may lie: under one of the names in `source`, right in it, or beside
    `images`.
    """
    places = [*(source / folder for folder in folders), source]
    if source.absolute().name == "images":
        places.append(source.absolute().parent)
    return places


def read_layout(name: str, source_path: str | Path, folders: Sequence[str],
                layouts: dict[tuple[str, ...], Callable[[Path], Splits]]) -> Splits:
    """The splits of the data set `name`, in the first folder and the first of the layouts that
    fits.

    A layout is what must exist in the folder, and who reads it. Raises UsageError where none fits.
    """
    source = Path(source_path)
    command = f"python -m datasets.prepare {name} --source_path {source}"
    get = f"`{command}` fetches the data set or says how"
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder; give the one that holds {name} by "
                         f"--source_path, or {get}.")
    for place in possible_folders(source, folders):
        for marks, read in layouts.items():
            if all((place / mark).exists() for mark in marks):
                return read(place)
    wanted = ", or ".join(map(" and ".join, layouts))
    raise UsageError(f"{source}: {name} is not here, for neither this folder nor "
                     f"{' nor '.join(folders)} in it has {wanted}; {get}.")


# ------------------------------------------------------------------------------------------- places


def class_halves(root: Path) -> Splits:
    """The splits of images/<class>/: the first half of the classes trains, the other half tests.

    Where all names begin with a number and a dot, as 001.Black_footed_Albatross, they are in the
    order of the numbers, of which none may be missing. Else they are in alphabetical order.
    """
    folder = root / "images"
    images = images_by_class(folder)
    classes = sorted(images)
    matches = [re.match(r"(\d+)\.", name) for name in classes]
    if classes and all(matches):
        number_of = {match.string: int(match[1]) for match in matches}
        classes.sort(key=number_of.get)
        numbers = set(number_of.values())
        missing = sorted(set(range(1, max(numbers))) - numbers)
        if missing:
            raise UsageError(f"{folder}: the folder of class {missing[0]} is missing; restore it, "
                             "for the two halves of the classes would shift without it.")
    rows = [(path, name) for name in classes for path in images[name]]
    return split_in_halves(folder, rows, classes=classes)


# -------------------------------------------------------------------------------------------- lists


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without spaces at their ends."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this list cannot be read (it is no text in UTF-8); "
                         f"{EXTRACT}.") from None
    except OSError as error:
        raise UsageError(f"{path}: this list cannot be read ({reason(error)}); "
                         f"{EXTRACT}.") from None
    return [line.strip() for line in lines]


def read_list(path: Path, columns: dict[str, Callable[[str], Any]], start: int = 1) -> list[tuple]:
    """The rows of a list from line `start` on: fields separated by spaces, by the types of
    `columns`.

    The last column takes the rest of its line, spaces and all; a line of the columns' names is a
    title. A type refuses a field by a ValueError, which becomes a UsageError that names the line.
    """
    rows = []
    title = list(columns)
    for number, line in enumerate(read_lines(path)[start - 1:], start=start):
        fields = line.split(maxsplit=len(columns) - 1)
        if not fields or fields == title:
            continue
        try:
            row = [kind(field) for kind, field in zip(columns.values(), fields, strict=True)]
        except ValueError:
            raise UsageError(f"{path}, line {number}: expected '{' '.join(title)}', found "
                             f"{line[:80]!r}; {EXTRACT}.") from None
        rows.append(tuple(row))
    if not rows:
        raise UsageError(f"{path}: the list is empty; {EXTRACT}.")
    return rows


def inner_path(text: str) -> str:
    """A path of a list, which leads to nothing outside its folder; a type for read_list."""
    if "\\" in text or "\0" in text or within(Path(), text) is None:
        raise ValueError(text)
    return text


def listed_files(source: Path, folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of a folder that the list `source` names; each must exist and be named once.

    Each directory is listed once: there are a hundred thousand files, perhaps on a network drive.
    """
    @cache
    def held(inner: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(folder / inner))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    split = [name.rpartition("/") for name in names]
    missing = [name for name, (inner, _, file) in zip(names, split) if file not in held(inner)]
    if missing:
        raise UsageError(f"{source}: {len(missing)} of {counted(len(names), 'image')} are missing, the first "
                         f"is {folder / missing[0]}; extract the archive again.")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UsageError(f"{source}: {twice} is named twice; an image may stand once, else it "
                         "would be its own nearest neighbour.")
    return [folder / name for name in names]
