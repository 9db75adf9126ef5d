"""CUB-200-2011 (Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011): birds of 200 species."""
from pathlib import Path

from datasets.base import Splits, split_in_halves
from datasets.files import Layout, class_halves, inner_path, listed_files, read_layout, read_list
from utilities.errors import UsageError

COUNTS = {"train": (5864, 100), "test": (5924, 100)}                               # images, classes
FOLDERS = ("CUB_200_2011", "cub200")


def cub200(source_path: str | Path) -> Splits:
    """The first half of the class numbers for training, the second for testing, as is usual for retrieval; the
    archive's own train_test_split.txt shares classes and is not used.

    Layouts: CUB_200_2011/ of the archive (images.txt, classes.txt, image_class_labels.txt, images/), or the base
    framework's images/<class>/.
    """
    return read_layout("cub200", source_path, FOLDERS, (
        Layout(("images.txt", "images"), _official),
        Layout(("images",), lambda root: class_halves(root / "images"))))


def _official(root: Path) -> Splits:
    """The archive's own tree."""
    images = _numbered(root / "images.txt", {"image_id": int, "path": inner_path})
    class_of = _numbered(root / "image_class_labels.txt", {"image_id": int, "class_id": int})
    names = _numbered(root / "classes.txt", {"class_id": int, "name": str})
    if unlabelled := sorted(images.keys() - class_of.keys()):
        raise UsageError(f"{root / 'image_class_labels.txt'}: image {unlabelled[0]} ({images[unlabelled[0]]}) has no "
                         "class; extract the list from the archive again.")
    if unnamed := sorted(set(class_of.values()) - names.keys()):
        raise UsageError(f"{root / 'classes.txt'}: class {unnamed[0]} has no name; extract the list from the archive "
                         "again.")
    paths = listed_files(root / "images.txt", root / "images", list(images.values()))
    return split_in_halves(root / "images.txt", paths, [names[class_of[image]] for image in images],
                  classes=[names[number] for number in sorted(names)])


def _numbered(path: Path, columns: dict) -> dict[int, int | str]:
    """The second column of a list by the first, which numbers its lines."""
    rows = read_list(path, columns)
    numbered = dict(rows)
    if len(numbered) < len(rows):
        raise UsageError(f"{path}: {len(rows)} lines have only {len(numbered)} different numbers; extract the list "
                         "from the archive again.")
    return numbered
