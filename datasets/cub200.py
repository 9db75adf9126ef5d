"""CUB-200-2011 (Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011): birds of 200
species.
"""
from collections.abc import Callable
from pathlib import Path

from datasets.base import Splits, split_in_halves
from datasets.files import (
    EXTRACT,
    Layout,
    class_halves,
    inner_path,
    listed_files,
    read_layout,
    read_list,
)
from utilities.errors import UsageError

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
    return read_layout("cub200", source_path, FOLDERS, (
        Layout(("images.txt", "images"), _official), Layout(("images",), class_halves)))


def _official(root: Path) -> Splits:
    """The archive's own tree."""
    lists = {name: root / f"{name}.txt" for name in ("images", "image_class_labels", "classes")}
    path_of = _numbered(lists["images"], image_id=int, path=inner_path)
    class_of = _numbered(lists["image_class_labels"], image_id=int, class_id=int)
    name_of = _numbered(lists["classes"], class_id=int, name=str)
    unlabelled = sorted(path_of.keys() - class_of.keys())
    if unlabelled:
        image = unlabelled[0]
        raise UsageError(f"{lists['image_class_labels']}: image {image} ({path_of[image]}) has no "
                         f"class; {EXTRACT}.")
    unnamed = sorted(set(class_of.values()) - name_of.keys())
    if unnamed:
        raise UsageError(f"{lists['classes']}: class {unnamed[0]} has no name; {EXTRACT}.")
    paths = listed_files(lists["images"], root / "images", list(path_of.values()))
    names = [name_of[class_of[image]] for image in path_of]
    in_order = [name_of[number] for number in sorted(name_of)]
    return split_in_halves(lists["images"], paths, names, classes=in_order)


def _numbered(path: Path, /, **columns: Callable) -> dict[int, int | str]:
    """The second column of a list by the first, which numbers its lines."""
    rows = read_list(path, columns)
    numbered = dict(rows)
    if len(numbered) < len(rows):
        raise UsageError(f"{path}: {len(rows)} lines have only {len(numbered)} different numbers; "
                         f"{EXTRACT}.")
    return numbered
