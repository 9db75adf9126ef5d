"""Your own images: a folder for each class, or a table of them.

    <source>/<class>/<image>   the first half of the sorted classes trains, the second half tests;
                               images in folders below a class are of this class
    <source>/labels.csv        columns path,label[,super_label][,split], paths relative to <source>;
                               split is train, val or test, and without the column as above
"""
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from datasets.base import ImageList, Splits, image_list, split_in_halves
from datasets.files import within
from datasets.folders import find_table, images_by_class
from datasets.formats import suffixes
from utilities.errors import UsageError
from utilities.labels import Line, read_lines, refuse_spellings
from utilities.text import counted

SPLITS = ("train", "val", "test")


class Row(NamedTuple):
    """One image of a table; `line` is where it stands, for messages."""

    line: int
    path: Path
    label: str
    super_label: str | None
    split: str | None


def image_folder(source_path: str | Path) -> Splits:
    """The splits of a folder in either layout; labels.csv wins where there is one."""
    source = Path(source_path)
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder; give the one that holds your images "
                         "by --source_path.")
    table = find_table(source)
    return _from_table(table) if table else _from_classes(source)


def _from_classes(source: Path) -> Splits:
    """The layout with a folder for each class; one without images is no class."""
    rows = [(path, name) for name, paths in images_by_class(source).items() for path in paths]
    if not rows:
        raise UsageError(f"{source}: no images found; expected {source}/<class>/<image> with "
                         f"endings {' '.join(sorted(suffixes()))}, or a labels.csv.")
    refuse_spellings((name, str(path.parent)) for path, name in rows)
    parents = {name.partition("/")[0].lower() for _, name in rows if "/" in name}
    if parents & set(SPLITS):
        raise UsageError(f"{source}: {min(parents & set(SPLITS))} holds class folders as a split "
                         "does; give the folder of one split, or name the splits in a labels.csv.")
    return split_in_halves(source, rows)


def _from_table(table: Path) -> Splits:
    """The layout with a labels.csv."""
    rows = _read(table)
    _check_files(table, rows)
    super_of = _one_per_class(table, rows, "super_label")
    split_of = _one_per_class(table, rows, "split")
    named = [(row.path, row.label) for row in rows]
    if split_of is None:
        return split_in_halves(table, named, super_of)

    def of_split(split: str) -> ImageList:
        return image_list([row for row in named if split_of[row[1]] == split], super_of)

    val = of_split("val")
    return Splits(of_split("train"), val if val.paths else None, of_split("test"))


def _read(table: Path) -> list[Row]:
    """The rows of the table, each checked by itself."""
    lines = read_lines(table, ["path", "label"], ["super_label"])
    if not lines:
        raise UsageError(f"{table}: the table names no images; add one row for each, or remove it "
                         "to use the folders.")
    for column in ("label", "super_label"):
        refuse_spellings((line[column], line.where) for line in lines if column in line)
    return [_row(table, line) for line in lines]


def _row(table: Path, line: Line) -> Row:
    """One row, its path below the table's folder."""
    split = line.get("split")
    if split not in (None, *SPLITS):
        raise UsageError(f"{line.where}: split {split!r} is unknown; write train, val or test.")
    path = within(table.parent, line["path"])
    if path is None:
        raise UsageError(f"{line.where}: path {line['path']} leaves the folder; write it relative "
                         f"to {table.parent}, without '..'.")
    return Row(line.number, path, line["label"], line.get("super_label"), split)


def _check_files(table: Path, rows: list[Row]) -> None:
    """Every file exists and is named once."""
    # unlike Path.is_file it raises nothing where a name is too long
    missing = [row for row in rows if not os.path.isfile(row.path)]
    if missing:
        raise UsageError(f"{table}: {len(missing)} of {counted(len(rows), 'file')} are missing, the first in "
                         f"line {missing[0].line}: {missing[0].path}; restore them, or remove "
                         "their rows.")
    line_of: dict[Path, int] = {}
    for row in rows:
        first = line_of.setdefault(row.path, row.line)
        if first != row.line:
            raise UsageError(f"{table}, line {row.line}: {row.path} is already named in line "
                             f"{first}; an image may stand once, else it would be its own nearest "
                             "neighbour.")


def _one_per_class(table: Path, rows: list[Row], column: str) -> dict[str, str] | None:
    """The value of a column by class, None where the table has no such column; a class may have
    only one.
    """
    if getattr(rows[0], column) is None:
        return None
    values: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        values[row.label].add(getattr(row, column))
    for name in sorted(values):
        if len(values[name]) > 1:
            raise UsageError(f"{table}: class {name!r} has more than one {column} "
                             f"({', '.join(sorted(values[name]))}); give all its rows the same.")
    return {name: min(of_class) for name, of_class in values.items()}
