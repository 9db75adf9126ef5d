"""Training on all classes of a data set; a share of the images of each may be held for testing."""
import hashlib
import os
from collections import defaultdict
from pathlib import Path

from datasets.base import ImageList, Splits, image_list
from utilities.errors import UsageError


def with_all_classes(splits: Splits, share: float | None = None) -> Splits:
    """All images of all splits for training, without a test.

    share: of the images of each class, these are queries of the test instead, and the images for
    training their gallery. Which ones follows from the names of class and file alone, so that new
    images do not bring tested ones into training. A class with several images holds at least one,
    and trains on at least one.
    """
    present = list(splits.present().values())
    rows = [row for images in present for row in named(images)]
    super_of = {}
    for images in present:
        supers = [images.super_names[label] for label in images.super_labels or ()]
        super_of |= zip(images.class_names, supers)
    if share is None:
        return Splits(image_list(rows, super_of), None, None)
    held = held_images(rows, share)
    if not held:
        raise UsageError(f"--test_by_images {share:g}: no class has a second image, so that none "
                         "can be held for testing; leave it out.")
    train = image_list([row for row in rows if row[0] not in held], super_of)
    test = image_list([row for row in rows if row[0] in held], super_of, train.class_names)
    return Splits(train, None, test, gallery=train)


def named(images: ImageList) -> list[tuple[Path, str]]:
    """Path and class of every image."""
    return [(path, images.class_names[label]) for path, label in zip(images.paths, images.labels)]


def held_images(rows: list[tuple[Path, str]], share: float) -> set[Path]:
    """The images that are held for testing: in every class those whose names come first by hash."""
    of_class = defaultdict(list)
    for path, name in rows:
        of_class[name].append(path)
    held: set[Path] = set()
    for name, paths in of_class.items():
        wanted = max(1, round(share * len(paths)))
        ordered = sorted(paths, key=lambda path: (_place(name, path), path.as_posix()))
        held.update(ordered[:min(wanted, len(paths) - 1)])
    return held


def _place(name: str, path: Path) -> bytes:
    """A random place in the order, the same wherever the data set lies."""
    return hashlib.sha256(os.fsencode(f"{name}/{path.name}")).digest()
