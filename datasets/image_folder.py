"""Your own images: a folder for each class, or a table of them.

    <source>/<class>/<image>   the first half of the sorted classes trains, the second half tests;
                               images in folders below a class are of this class
    <source>/labels.csv        columns path,label[,super_label][,split], paths relative to <source>;
                               split is train, val or test, and without the column as above
"""
import os
from pathlib import Path

from datasets.base import ImageList, Splits, image_list, split_in_halves
from datasets.folders import find_table, images_by_class, within
from datasets.formats import suffixes
from utilities.errors import UsageError
from utilities.labels import Line, read_lines, refuse_spellings
from utilities.text import counted

SPLITS = ("train", "val", "test")
# columns that say something of a class
OF_CLASS = ("label", "super_label", "split")


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
    lines = read_lines(table, ["path", "label"], ["super_label"])
    if not lines:
        raise UsageError(f"{table}: the table names no images; add one row for each, or remove it "
                         "to use the folders.")
    for column in ("label", "super_label"):
        refuse_spellings((line[column], line.where) for line in lines if column in line)
    first: dict[str, Line] = {}
    for line in lines:
        check_class(line["label"], first.setdefault(line["label"], line), line)
    rows = list(zip(_files(table, lines), [line["label"] for line in lines]))
    super_of = supers(first)
    if "split" not in lines[0]:
        return split_in_halves(table, rows, super_of)

    def of_split(split: str) -> ImageList:
        return image_list([row for row in rows if first[row[1]]["split"] == split], super_of)

    val = of_split("val")
    return Splits(of_split("train"), val if val.paths else None, of_split("test"))


def check_class(name: str, first: Line, line: Line) -> None:
    """A class has one value in each column of OF_CLASS, and its split is known."""
    split = line.get("split")
    if split not in (None, *SPLITS):
        raise UsageError(f"{line.where}: split {split!r} is unknown; write train, val or test.")
    for column in OF_CLASS:
        if line.get(column) != first.get(column):
            raise UsageError(f"{line.where}: class {name!r} has the {column} {line[column]!r} here and "
                             f"{first[column]!r} in line {first.number}; give all its rows the same.")


def supers(first: dict[str, Line]) -> dict[str, str]:
    """The super-class of each class, from a line of it; empty where the table has none."""
    return {name: line["super_label"] for name, line in first.items() if "super_label" in line}


def _files(table: Path, lines: list[Line]) -> list[Path]:
    """The file of each line, below the table's folder; every file exists and is named once."""
    line_of: dict[Path, Line] = {}
    for line in lines:
        path = within(table.parent, line["path"])
        if path is None:
            raise UsageError(f"{line.where}: path {line['path']} leaves the folder; write it relative "
                             f"to {table.parent}, without '..'.")
        first = line_of.setdefault(path, line)
        if first is not line:
            raise UsageError(f"{line.where}: {path} is already named in line {first.number}; an image "
                             "may stand once, else it would be its own nearest neighbour.")
    # unlike Path.is_file it raises nothing where a name is too long
    missing = [path for path in line_of if not os.path.isfile(path)]
    if missing:
        raise UsageError(f"{table}: {len(missing)} of {counted(len(lines), 'file')} are missing, the first in "
                         f"line {line_of[missing[0]].number}: {missing[0]}; restore them, or remove "
                         "their rows.")
    return list(line_of)
