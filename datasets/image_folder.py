"""Your own images: a folder for each class, or a table of them.

    <source>/<class>/<image>                  the first half of the sorted classes trains, the second half tests
    <source>/labels.csv                       columns path,label[,super_label][,split], paths relative to <source>;
                                              split is train, val or test, and without the column as above
"""
import csv
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from datasets.base import ImageList, Splits, image_list, split_in_halves
from datasets.files import IMAGE_SUFFIXES, images_by_class, within
from utilities.errors import UsageError

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
        raise UsageError(f"{source}: there is no such folder; give the one that holds your images by --source_path.")
    table = source / "labels.csv"
    return _from_table(table) if table.is_file() else _from_classes(source)


def _from_classes(source: Path) -> Splits:
    """The layout with a folder for each class; one without images is no class."""
    paths = [path for images in images_by_class(source).values() for path in images]
    if not paths:
        raise UsageError(f"{source}: no images found; expected {source}/<class>/<image> with endings "
                         f"{' '.join(sorted(IMAGE_SUFFIXES))}, or a labels.csv.")
    return split_in_halves(source, paths, [path.parent.name for path in paths])


def _from_table(table: Path) -> Splits:
    """The layout with a labels.csv."""
    rows = _read(table)
    _check_files(table, rows)
    super_of = _one_per_class(table, rows, "super_label")
    if rows[0].split is None:
        return split_in_halves(table, [row.path for row in rows], [row.label for row in rows], super_of)
    _one_per_class(table, rows, "split")
    return Splits(*(_of_split(rows, split, super_of) for split in SPLITS))


def _of_split(rows: list[Row], split: str, super_of: dict[str, str] | None) -> ImageList | None:
    """The images of one split; for validation None where there are none."""
    chosen = [row for row in rows if row.split == split]
    if split == "val" and not chosen:
        return None
    return image_list([row.path for row in chosen], [row.label for row in chosen], super_of)


def _read(table: Path) -> list[Row]:
    """The rows of the table, each checked by itself."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            missing = [name for name in ("path", "label") if name not in columns]
            if missing:
                raise UsageError(f"{table}: no column {' and no column '.join(missing)}; the first line must name the "
                                 "columns path,label and may name super_label and split.")
            if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
                raise UsageError(f"{table}: the column {twice[0]} stands twice; leave one of them out.")
            rows = [_row(table, reader.line_num, fields) for fields in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: this is not a csv table in UTF-8 ({error}); save it as one.") from None
    except OSError as error:
        raise UsageError(f"{table}: this table cannot be read ({error.strerror or error}); allow it.") from None
    if not rows:
        raise UsageError(f"{table}: the table names no images; add one row for each, or remove it to use the folders.")
    return rows


def _row(table: Path, line: int, fields: dict) -> Row:
    """One row, its path below the table's folder."""
    if any(fields.pop(None, ())):
        raise UsageError(f"{table}, line {line}: there are more fields than columns; put quotes around a field that "
                         "holds a comma.")
    fields = {name: (value or "").strip() for name, value in fields.items()}
    for name in {"path", "label", "super_label"} & fields.keys():
        if not fields[name]:
            raise UsageError(f"{table}, line {line}: the {name} is empty; fill it in, or remove the row.")
    split = fields.get("split")
    if split is not None and split not in SPLITS:
        raise UsageError(f"{table}, line {line}: split {split!r} is unknown; write train, val or test.")
    path = within(table.parent, fields["path"])
    if path is None:
        raise UsageError(f"{table}, line {line}: path {fields['path']} leaves the folder; write it relative to "
                         f"{table.parent}, without '..'.")
    return Row(line, path, fields["label"], fields.get("super_label"), split)


def _check_files(table: Path, rows: list[Row]) -> None:
    """Every file is there, and named once."""
    missing = [row for row in rows if not os.path.isfile(row.path)]                # no error where a name is too long
    if missing:
        raise UsageError(f"{table}: {len(missing)} of {len(rows)} files are missing, the first in line "
                         f"{missing[0].line}: {missing[0].path}; restore them, or remove their rows.")
    line_of: dict[Path, int] = {}
    for row in rows:
        if line_of.setdefault(row.path, row.line) != row.line:
            raise UsageError(f"{table}, line {row.line}: {row.path} is already named in line {line_of[row.path]}; "
                             "an image may stand once, else it would be its own nearest neighbour.")


def _one_per_class(table: Path, rows: list[Row], column: str) -> dict[str, str] | None:
    """The value of a column by class, None where the table has no such column; a class may have only one."""
    if getattr(rows[0], column) is None:
        return None
    values: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        values[row.label].add(getattr(row, column))
    for name in sorted(values):
        if len(values[name]) > 1:
            raise UsageError(f"{table}: class {name!r} has more than one {column} ({', '.join(sorted(values[name]))}); "
                             "give all its rows the same.")
    return {name: min(of) for name, of in values.items()}
