"""Training on all classes of a data set; a share of the images of each may be held for testing."""
import hashlib
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from datasets.base import ImageList, Splits, image_list, images_of_rows, of_rows, super_classes
from datasets.row_paths import RowPaths
from utilities.errors import UsageError


def with_all_classes(splits: Splits, share: float | None = None) -> Splits:
    """All images of all splits for training, without a test.

    share: of the images of each class, these are queries of the test instead, and the images for
    training their gallery. Which ones follows from the names of class and file alone, so that new
    images do not bring tested ones into training. A class with several images holds at least one,
    and trains on at least one.
    """
    whole = together(list(splits.present().values()))
    if share is None:
        return Splits(whole, None, None)
    held = held_images(whole, share)
    if not held:
        raise UsageError(f"--test_by_images {share:g}: no class has a second image, so that none "
                         "can be held for testing; leave it out.")
    others = [i for i in range(len(whole.labels)) if i not in held]
    tested = sorted(held)
    # every class trains, so that its label stays
    train = images_of_rows(whole, others)
    test = train._replace(paths=images_of_rows(whole, tested).paths,
                          labels=[whole.labels[i] for i in tested])
    return Splits(train, None, test, gallery=train)


def together(lists: list[ImageList]) -> ImageList:
    """The images of several lists in one, in the usual order."""
    super_of = {}
    for images in lists:
        super_of |= super_classes(images)
    first = lists[0].paths
    if not isinstance(first, RowPaths):
        rows = [row for images in lists for row in named(images)]
        return image_list(rows, super_of)
    names = sorted({name for images in lists for name in images.class_names})
    label_of = {name: label for label, name in enumerate(names)}
    label = []
    for images in lists:
        own = np.array([label_of[name] for name in images.class_names], dtype=np.int64)
        label.append(own[images.labels])
    rows = np.concatenate([images.paths.rows for images in lists])
    return of_rows(first.file, rows, np.concatenate(label), names, super_of)


def named(images: ImageList) -> list[tuple[Path, str]]:
    """Path and class of every image."""
    return [(path, images.class_names[label]) for path, label in zip(images.paths, images.labels)]


def held_images(images: ImageList, share: float) -> set[int]:
    """The images that are held for testing: in every class those whose names come first by hash."""
    of_class = defaultdict(list)
    for i, label in enumerate(images.labels):
        of_class[label].append(i)
    held: set[int] = set()
    for label, members in of_class.items():
        name = images.class_names[label]
        wanted = max(1, round(share * len(members)))
        ordered = sorted(members, key=lambda i: _place(name, images.paths[i]))
        held.update(ordered[:min(wanted, len(members) - 1)])
    return held


def _place(name: str, path: Path) -> tuple[bytes, str]:
    """A random place in the order, the same wherever the data set lies."""
    return hashlib.sha256(os.fsencode(f"{name}/{path.name}")).digest(), path.as_posix()
