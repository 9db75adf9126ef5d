"""What lies on disk: which files are images, lists of them, and in which folder a data set was put."""
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from datasets.base import Splits, split_in_halves
from utilities.errors import UsageError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
STRAY = (".", "__macosx", "@eadir")   # how the names begin, in any case, that operating systems leave behind


class Layout(NamedTuple):
    """One way in which a data set lies in a folder: what is there, and who reads it."""

    marks: tuple[str, ...]
    read: Callable[[Path], Splits]


def read_layout(name: str, source_path: str | Path, folders: Sequence[str], layouts: Sequence[Layout]) -> Splits:
    """The splits of the data set `name`, which lies under one of the names `folders` in `source_path`, or right in it,
    or beside it where that is the folder `images`, in the first of the layouts that fits."""
    source = Path(source_path)
    get = f"`python -m datasets.prepare {name} --source_path {source}` fetches the data set or says how"
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder; give the one that holds {name} by --source_path, or "
                         f"{get}.")
    places = [*(source / folder for folder in folders), source]
    if source.absolute().name == "images":
        places.append(source.absolute().parent)
    for place in places:
        for layout in layouts:
            if all((place / mark).exists() for mark in layout.marks):
                return layout.read(place)
    wanted = ", or ".join(" and ".join(layout.marks) for layout in layouts)
    raise UsageError(f"{source}: {name} is not here, for neither this folder nor {' nor '.join(folders)} in it has "
                     f"{wanted}; {get}.")


# ---------------------------------------------------------------------------------------------------------- folders


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's (.DS_Store, ._x, __MACOSX and the like)."""
    return name.lower().startswith(STRAY)


def is_image(name: str) -> bool:
    """Whether a file of this name is an image; an empty file is one, and a damaged one, as decoding will say."""
    return not is_stray(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _listed(folder: Path) -> list[os.DirEntry]:
    """What a folder holds, sorted by name, without strays; nothing in it is looked at, which takes long for many."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_stray(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"{folder}: this folder cannot be read ({error.strerror or error}); allow it, or give "
                         "another.") from None


def images_by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of each folder in a folder, by its name; both sorted, empty ones too. A link that leads nowhere is an
    image, which decoding will not find."""
    found = {entry.name: [Path(image.path) for image in _listed(folder / entry.name)
                          if is_image(image.name) and (image.is_file() or image.is_symlink() and not image.is_dir())]
             for entry in _listed(folder) if entry.is_dir()}
    for path in (path for name, images in found.items() for path in (folder / name, *images)):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{path}: this name is not in UTF-8, as the reports of a run are; rename it.") from None
    return found


def within(folder: Path, name: str) -> Path | None:
    """The file that a table names relative to a folder, None where it would lie outside; windows separators are
    understood."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(path).drive or ".." in path.parts:
        return None
    return folder / path


def images_below(folder: Path) -> list[Path]:
    """All images of a folder and the folders in it, at any depth, sorted."""
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not is_stray(name)]
        found += [Path(place) / name for name in names if is_image(name)]
    return sorted(found)


def class_halves(folder: Path) -> Splits:
    """The splits of a folder with a folder for each class: the first half of the classes trains, the other tests.

    Where all names begin with a number and a dot, as 001.Black_footed_Albatross, they are in the order of the numbers,
    of which none may be missing; else they are in alphabetical order.
    """
    images = images_by_class(folder)
    classes = sorted(images)
    numbers = [int(found[1]) for name in classes if (found := re.match(r"(\d+)\.", name))]
    if len(numbers) == len(classes) > 0:
        held = set(numbers)
        gap = next(number for number in count(1) if number not in held)
        if gap < max(numbers):
            raise UsageError(f"{folder}: the folder of class {gap} is missing; restore it, for the two halves of "
                             "the classes would shift without it.")
        classes = [name for _, name in sorted(zip(numbers, classes))]
    paths = [path for name in classes for path in images[name]]
    return split_in_halves(folder, paths, [path.parent.name for path in paths], classes=classes)


# ------------------------------------------------------------------------------------------------------------ lists


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without spaces at their ends."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageError(f"{path}: this list cannot be read ({reason}); extract it from the archive again.") from None


def read_list(path: Path, columns: dict[str, Callable[[str], Any]], start: int = 1) -> list[tuple]:
    """The rows of a list from line `start` on, a line each: its fields, separated by spaces, by the types of `columns`.

    The last column takes the rest of its line, spaces and all; a line of the columns' names is a title. A type refuses
    a field by a ValueError.
    """
    rows, title = [], list(columns)
    for number, line in enumerate(read_lines(path)[start - 1:], start=start):
        fields = line.split(maxsplit=len(columns) - 1)
        if not fields or fields == title:
            continue
        try:
            rows.append(tuple(kind(field) for kind, field in zip(columns.values(), fields, strict=True)))
        except ValueError:
            raise UsageError(f"{path}, line {number}: expected '{' '.join(title)}', found {line[:80]!r}; extract the "
                             "list from the archive again.") from None
    if not rows:
        raise UsageError(f"{path}: the list is empty; extract it from the archive again.")
    return rows


def inner_path(text: str) -> str:
    """A path of a list, which leads to nothing outside its folder; a type for read_list."""
    if text.startswith("/") or text[1:2] == ":" or "\\" in text or "\0" in text or ".." in text.split("/"):
        raise ValueError(text)
    return text


def listed_files(source: Path, folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of a folder that the list `source` names, each there and named once.

    One listing a directory instead of a look at each file: these are a hundred thousand, perhaps on a network drive.
    """
    @cache
    def held(inner: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(folder / inner))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    parts = [name.rpartition("/") for name in names]
    missing = [name for name, (inner, _, file) in zip(names, parts) if file not in held(inner)]
    if missing:
        raise UsageError(f"{source}: {len(missing)} of {len(names)} images are missing, the first is "
                         f"{folder / missing[0]}; extract the archive again.")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UsageError(f"{source}: {twice} is named twice; an image may stand once, else it would be its own nearest "
                         "neighbour.")
    return [folder / name for name in names]
