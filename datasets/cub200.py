"""CUB-200-2011 (Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011): birds of 200
species.
"""
from collections.abc import Callable
from pathlib import Path

from datasets.base import Splits, split_in_halves
from datasets.files import (
    EXTRACT,
    class_halves,
    inner_path,
    listed_files,
    read_layout,
    read_list,
)
from utilities.errors import UsageError
from utilities.text import counted

# images, classes
COUNTS = {"train": (5864, 100), "test": (5924, 100)}
FOLDERS = ("CUB_200_2011", "cub200")


def cub200(source_path: str | Path) -> Splits:
    """The first half of the class numbers for training, the second for testing, as is usual for
    retrieval.

    The archive's own train_test_split.txt shares classes and is not used. Layouts: CUB_200_2011/ of
    the archive (images.txt, classes.txt, image_class_labels.txt, images/), or the base framework's
    images/<class>/.
    """
    return read_layout("cub200", source_path, FOLDERS, {
        ("images.txt", "images"): _official, ("images",): class_halves})


def _official(root: Path) -> Splits:
    """The archive's own tree."""
    images = root / "images.txt"
    labels = root / "image_class_labels.txt"
    classes = root / "classes.txt"
    path_of = _numbered(images, image_id=int, path=inner_path)
    class_of = _numbered(labels, image_id=int, class_id=int)
    name_of = _numbered(classes, class_id=int, name=str)
    unlabelled = sorted(path_of.keys() - class_of.keys())
    if unlabelled:
        image = unlabelled[0]
        raise UsageError(f"{labels}: image {image} ({path_of[image]}) has no class; {EXTRACT}.")
    unnamed = sorted(set(class_of.values()) - name_of.keys())
    if unnamed:
        raise UsageError(f"{classes}: class {unnamed[0]} has no name; {EXTRACT}.")
    paths = listed_files(images, root / "images", list(path_of.values()))
    rows = [(path, name_of[class_of[image]]) for path, image in zip(paths, path_of)]
    in_order = [name_of[number] for number in sorted(name_of)]
    return split_in_halves(images, rows, classes=in_order)


def _numbered(path: Path, /, **columns: Callable) -> dict[int, int | str]:
    """The second column of a list by the first, which numbers its lines."""
    rows = read_list(path, columns)
    numbered = dict(rows)
    if len(numbered) < len(rows):
        raise UsageError(f"{path}: {counted(len(rows), 'line')} have only {len(numbered)} different numbers; "
                         f"{EXTRACT}.")
    return numbered
