"""The images in a folder, and the class of each: the same for all commands.

Links to folders are followed. A class is the topmost folder below the source that holds images
itself; those in folders below it are of its class. What lies right in the source has no class, but
where nothing else does.
"""
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from datasets.formats import ENDINGS, NO_HEIF, suffixes
from utilities.errors import UsageError, reason
from utilities.text import counted, printable

# files and folders, in any case, that systems and devices leave behind; so is what begins with a
# dot
STRAY = {"__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "recycler",
         "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini"}
TABLE = "labels.csv"
# kinds of files that a sentence names, and letters of an ending
KINDS = 6
LONGEST = 12


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's."""
    return name.startswith(".") or name.lower() in STRAY


def ending(name: str) -> str:
    """The ending of a file's name, in small letters."""
    return os.path.splitext(name)[1].lower()


def within(folder: Path, name: str) -> Path | None:
    """The file that a table names relative to a folder, None where it would lie outside.

    Windows separators are understood, unless the file has them in its name, as it may elsewhere.
    """
    path = PurePosixPath(name)
    foreign = "\\" in name or PureWindowsPath(name).drive
    if foreign and not (os.name == "posix" and (folder / path).is_file()):
        path = PurePosixPath(name.replace("\\", "/"))
        if PureWindowsPath(path).drive:
            return None
    return None if path.is_absolute() or ".." in path.parts else folder / path


class Contents(NamedTuple):
    """What a folder holds at any depth: images, and how many other files there are of each kind.
    """

    images: list[Path]
    others: Counter[str]


def contents(folder: Path) -> Contents:
    """All files below a folder, but for strays; no file is opened, which takes long for many.

    A link that leads nowhere counts by its name, so that decoding will name it.
    """
    images = []
    others: Counter[str] = Counter()
    for entry in _files(folder):
        kind = ending(entry.name)
        if not entry.is_symlink() and not entry.is_file():
            others["pipe or device"] += 1
        elif kind in suffixes():
            images.append(Path(entry.path))
        else:
            others[kind[:LONGEST] or "without ending"] += 1
    return Contents(sorted(images), others)


def _files(folder: Path) -> Iterator[os.DirEntry]:
    """The files below a folder. A link to a folder is followed, but not to one that it is in."""
    waiting = [(folder, [os.path.realpath(folder)])]
    while waiting:
        place, above = waiting.pop()
        for entry in _entries(place):
            if not _is_folder(entry):
                yield entry
                continue
            inside = Path(entry.path)
            real = f"{above[-1]}/{entry.name}"
            if entry.is_symlink():
                real = os.path.realpath(inside)
            is_above = any(f"{one}/".startswith(os.path.join(real, "")) for one in above)
            if not is_above:
                waiting.append((inside, [*above, real]))


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads round is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _entries(folder: Path) -> list[os.DirEntry]:
    """What a folder holds, without strays."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_stray(entry.name)]
    except OSError as error:
        raise UsageError(f"{folder}: this folder cannot be read ({reason(error)}); allow it, or "
                         "give another.") from None


def _names_of_files(folder: Path) -> list[str]:
    """The names of what a folder holds itself and is no folder, sorted."""
    return sorted(entry.name for entry in _entries(folder) if not _is_folder(entry))


def images_below(folder: Path) -> list[Path]:
    """All images of a folder and the folders in it, at any depth, sorted."""
    return contents(folder).images


def images_by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of each class in a folder, by its name; both sorted. A folder without images is a
    class without any.

    Prints one line about the files that are not read.
    """
    images, others = contents(folder)
    holders = {path.parent for path in images} - {folder}
    classes: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        name = _class_of(path.parent.relative_to(folder), folder, holders)
        if name is not None:
            classes[name].append(path)
        else:
            others[f"{ending(path.name)} beside the class folders"] += 1
    for name in _without_images(folder, classes):
        classes[name] = []
    for name, paths in classes.items():
        _require_utf8([folder / name, *paths])
    print_unread(folder, others)
    return dict(sorted(classes.items()))


def _class_of(inner: Path, folder: Path, holders: set[Path]) -> str | None:
    """The class of images in folder/inner; None where they have none."""
    if not holders:
        return folder.resolve().name
    for depth in range(1, len(inner.parts) + 1):
        name = Path(*inner.parts[:depth])
        if folder / name in holders:
            return name.as_posix()
    return None


def _without_images(folder: Path, classes: Iterable[str]) -> list[str]:
    """The folders in a folder that have no image at any depth."""
    used = {name.partition("/")[0] for name in classes}
    names = [entry.name for entry in _entries(folder) if _is_folder(entry)]
    return [name for name in names if name not in used]


def _require_utf8(paths: Iterable[Path]) -> None:
    """A UsageError for a name that the reports of a run cannot hold."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{path}: this name is not in UTF-8, as the reports of a run are; "
                             "rename it.") from None


def refuse_within(flag: str, path: str | Path, source: str | Path) -> None:
    """A UsageError where a folder to be written is, or lies in, one whose images are found by
    looking everywhere in it: pictures in it would be images of a class the next time."""
    source = Path(source)
    inside = Path(path).resolve().is_relative_to(source.resolve())
    if not inside or not source.is_dir():
        return
    if TABLE not in map(str.lower, _names_of_files(source)):
        raise UsageError(f"{flag} {path} lies in {source}, where what is written would be taken for "
                         "images and their table; name a folder outside.")


# -------------------------------------------------------------------------------- what is not read


def print_unread(folder: Path, others: Counter[str]) -> None:
    """One line that counts the files that are not read, by ending."""
    number = others.total()
    if not number:
        return
    shown = others.most_common(KINDS)
    named = [f"{count:,} {printable(kind)}" for kind, count in shown]
    if len(others) > KINDS:
        named.append(counted(number - sum(count for _, count in shown), "other"))
    verb = "file is" if number == 1 else "files are"
    hint = f" ({NO_HEIF})" if set(ENDINGS["HEIF"]) & set(others) else ""
    print(f"note: {folder}: {number:,} {verb} not read: {', '.join(named)}{hint}.")


def find_table(source: Path) -> Path | None:
    """The table of a folder, its name in any case; None, and a line, for one of another kind."""
    names = _names_of_files(source)
    tables = [name for name in names if name.lower() == TABLE]
    if TABLE in tables:
        return source / TABLE
    if len(tables) > 1:
        raise UsageError(f"{source}: {' and '.join(tables)} are both tables; keep one.")
    if tables:
        return source / tables[0]
    for name in names:
        if name.lower().startswith("labels.") and ending(name) not in suffixes():
            print(f"note: {source / name} is not read; a table must be called {TABLE}, and not be "
                  "packed.")
    return None
