"""Rows from anywhere in the place of images, such as the features of a large network.

    FILE.npy                   float16, float32 or float64 (N, F), one row an image
    labels.csv                 beside it, a line for each row: label[,class][,path][,super_label][,split]

The first half of the sorted classes trains, the second half tests, or as `split` says. FILE may be a
folder too, as evaluation.embed writes it. The file is mapped into memory, and read through once.
"""
import hashlib
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.base import ImageList, Splits, of_rows
from datasets.folders import TABLE, find_table
from datasets.image_folder import SPLITS, check_class, supers
from datasets.row_paths import RowFile, RowPaths, Texts
from utilities.cells import FORMULA
from utilities.errors import UsageError, in_brief
from utilities.files import read_json
from utilities.labels import Line, each_line, refuse_spellings, refuse_two_classes

ROWS = "embeddings.npy"
DESCRIPTION = "embeddings.json"
SOURCE = "give a .npy file of rows, such as the embeddings.npy of evaluation.embed."
# bytes that are read at once
BLOCK = 2**25


class Table(NamedTuple):
    """What labels.csv says: the number of each row's class in class_names (N,), what each row's image
    is called, and the first line of each class.
    """

    label: np.ndarray
    class_names: list[str]
    names: Texts | None
    first: dict[str, Line]


def embeddings(source_path: str | Path) -> Splits:
    """The splits of a file of rows."""
    path = file_of(Path(source_path))
    file, table = read_rows(path)
    names = table.class_names
    split_of = {name: table.first[name].get("split") for name in names}
    if None not in split_of.values():
        wanted = [[name for name in names if split_of[name] == split] for split in SPLITS]
    else:
        wanted = [names[:len(names) // 2], [], names[len(names) // 2:]]
    train, val, test = (of_classes(file, table, some) for some in wanted)
    return Splits(train, val if len(val.paths) else None, test)


def all_rows(source: Path) -> ImageList:
    """All rows of a file, in the order of their classes."""
    file, table = read_rows(file_of(source))
    return of_classes(file, table, table.class_names)


def of_classes(file: RowFile, table: Table, wanted: list[str]) -> ImageList:
    """The rows of these classes, of which the names are sorted."""
    number_of = {name: i for i, name in enumerate(wanted)}
    number = np.array([number_of.get(name, -1) for name in table.class_names], dtype=np.int64)
    label = number[table.label]  # (N,)
    rows = np.flatnonzero(label >= 0)
    return of_rows(file, rows, label[rows], wanted, supers(table.first))


def is_row_file(source: Path) -> bool:
    """Whether this is a file of rows, and no folder of images."""
    return source.suffix == ".npy" and not source.is_dir()


def file_of(source: Path) -> Path:
    """The file itself, or that of a folder."""
    if not source.is_dir():
        return source
    files = sorted(source.glob("*.npy"))
    if source / ROWS in files:
        return source / ROWS
    if len(files) != 1:
        raise UsageError(f"{source} holds {len(files)} .npy files; name one of them by "
                         "--source_path.")
    return files[0]


def read_rows(path: Path) -> tuple[RowFile, Table]:
    """A file of rows and its table, checked."""
    values = numbers_in(path, SOURCE)
    if not values.flags.c_contiguous:
        raise UsageError(f"{path} is stored column by column; save numpy.ascontiguousarray of it.")
    place = find_table(path.parent)
    if place is None:
        raise UsageError(f"{path}: there is no {TABLE} beside it; write one with a column label and a "
                         "line for each row.")
    table = read_table(place)
    if len(table.label) != len(values):
        raise UsageError(f"{place} has {len(table.label)} lines for {len(values)} rows of {path}; give "
                         "files of one set.")
    digest = checked_digest(path, values)
    return RowFile(path, values, digest, table.names, image_root(place)), table


def numbers_in(path: str | Path, source: str, kinds: str = "f") -> np.ndarray:
    """(N, D) numbers of a .npy file, mapped into memory; pickled objects are refused.

    kinds: of numpy's types. source: what to do about a file that is none, for messages.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; {source}") from None
    # numpy raises errors of many types for a damaged header
    except Exception as error:
        raise UsageError(f"{path} is not a readable .npy file of numbers ({in_brief(error)}); "
                         f"{source}") from None
    shape = "several arrays"
    if isinstance(rows, np.ndarray):
        if rows.ndim == 2 and rows.shape[1] and rows.dtype.kind in kinds:
            return rows
        shape = f"{rows.dtype} {rows.shape}"
    wanted = "real numbers" if "i" in kinds else "float16, float32 or float64"
    raise UsageError(f"{path} holds {shape}; expected {wanted} of shape (N, D), one row an image.")


def checked_digest(path: Path, values: np.ndarray) -> str:
    """The SHA-256 of shape, type and content; a UsageError names a row that is not finite in float32.

    The file is read, since pages of a map would count as memory of the process.
    """
    width = values.shape[1]
    step = max(1, BLOCK // (width * values.itemsize))
    found = hashlib.sha256(repr((values.shape, values.dtype.str)).encode())
    with open(path, "rb") as file, np.errstate(over="ignore"):
        file.seek(values.offset)
        for start in range(0, len(values), step):
            count = min(step, len(values) - start)
            block = np.fromfile(file, values.dtype, count * width).reshape(count, width)
            is_finite = np.isfinite(block.astype(np.float32, copy=False)).all(1)  # (n,)
            if not is_finite.all():
                row = start + int(is_finite.argmin())
                raise UsageError(f"{path}: row {row} (counted from 0) holds NaN, inf or a number "
                                 "beyond float32; correct it, or leave out the row and its line of "
                                 f"{TABLE}.")
            found.update(block)
    return found.hexdigest()


def read_table(place: Path) -> Table:
    """The table, read line by line."""
    first: dict[str, Line] = {}
    of_label: dict[str, Line] = {}
    numbers: dict[str, int] = {}
    label = array("q")
    names = Texts()
    for line in each_line(place, ["label"], ["class", "super_label"]):
        name = line.get("class", line["label"])
        if name not in first:
            first[name] = line
            numbers[name] = len(numbers)
        check_class(name, first[name], line)
        refuse_two_classes(of_label.setdefault(line["label"], line), line)
        label.append(numbers[name])
        names.append(line.get("path", ""))
    refuse_spellings((name, line.where) for name, line in first.items())
    class_names = sorted(numbers)
    order = np.argsort([numbers[name] for name in class_names])
    is_named = len(names.data) > 0
    return Table(order[np.array(label, dtype=np.int64)], class_names, names if is_named else None, first)


def image_root(table: Path) -> Path:
    """The folder of the images that a table names: as embeddings.json beside it says, or the
    table's.
    """
    try:
        return Path(read_json(table.parent / DESCRIPTION)["images"])
    except (LookupError, TypeError):
        return table.parent


def row_names(images: ImageList, source: Path) -> list[str]:
    """What a table calls these images: as theirs does, or their paths below `source`."""
    if isinstance(images.paths, RowPaths):
        return [as_listed(images.paths.name(i)) for i in range(len(images.paths))]
    return [as_listed(path.relative_to(source)) for path in images.paths]


def as_listed(path: Path | str) -> str:
    """A path as tables name it.

    One that begins with a space begins with ./, or the space is lost; so does one that a
    spreadsheet would compute.
    """
    name = path.as_posix() if isinstance(path, Path) else path
    return f"./{name}" if name[:1].isspace() or name.startswith(FORMULA) else name
