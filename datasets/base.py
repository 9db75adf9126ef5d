"""What every data set is made of: lists of images by split, checked; and what a batch is."""
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.row_paths import RowFile, RowPaths
from utilities.errors import UsageError
from utilities.text import counted


class Batch(NamedTuple):
    """image (B, 3, H, W) float; label (B,), the class within its split; index (B,), the row in
    the image list.
    """

    image: Tensor
    label: Tensor
    index: Tensor


class ImageList(NamedTuple):
    """The images of one split. Labels are 0-based and contiguous; class_names and super_labels are
    by label.

    Queries and gallery share one numbering, so that a class of one may have no image in the other.
    Rows of a file may take the place of images: a RowPaths that of the paths.
    """

    paths: list[Path] | RowPaths
    labels: list[int]
    class_names: list[str]
    super_labels: list[int] | None = None
    super_names: list[str] | None = None

    def counts(self) -> tuple[int, int]:
        """How many images, and how many classes have some."""
        return len(self.paths), len(set(self.labels))


class Splits(NamedTuple):
    """Training, validation (or None) and test images (or None, where nothing is tested).

    With a gallery the test images are queries, which are searched in the gallery instead of among
    each other. Both number their classes alike. A query whose class is not in the gallery counts
    in no metric.
    """

    train: ImageList
    val: ImageList | None
    test: ImageList | None
    gallery: ImageList | None = None

    def present(self) -> dict[str, ImageList]:
        """The splits that exist, by name."""
        return {name: images for name, images in self._asdict().items() if images is not None}

    def __str__(self) -> str:
        counts = {name: images.counts() for name, images in self.present().items()}
        return ", ".join(f"{name} {counted(images, 'image')} of {counted(classes, 'class')}"
                         for name, (images, classes) in counts.items())


class Draw(NamedTuple):
    """One image of a training batch: its row, and its place in the order of training.

    Every random choice of its augmentation follows from these numbers. So the choices depend
    neither on the number of workers nor on what the training process draws meanwhile.
    """

    index: int
    epoch: int
    position: int


def image_list(rows: Iterable[tuple[Path, str]], super_of: dict[str, str] | None = None,
               classes: Collection[str] = ()) -> ImageList:
    """An ImageList from paths with their class names, and the super-class of each class.

    It is sorted by class name, then by path, whatever the order of the rows. `classes` get a
    label too where they have no image.
    """
    rows = sorted(rows, key=lambda row: (row[1], row[0].as_posix()))
    paths = [path for path, _ in rows]
    names = [name for _, name in rows]
    class_names = sorted({*names, *classes})
    label_of = {name: label for label, name in enumerate(class_names)}
    images = ImageList(paths, [label_of[name] for name in names], class_names)
    return with_supers(images, super_of)


def with_supers(images: ImageList, super_of: dict[str, str] | None) -> ImageList:
    """The same images with the super-class of each class, if there is one."""
    if not super_of:
        return images
    supers = [super_of[name] for name in images.class_names]
    super_names = sorted(set(supers))
    super_labels = [super_names.index(name) for name in supers]
    return images._replace(super_labels=super_labels, super_names=super_names)


def super_classes(images: ImageList) -> dict[str, str]:
    """The super-class of each class, empty where there are none."""
    supers = [images.super_names[label] for label in images.super_labels or ()]
    return dict(zip(images.class_names, supers))


def of_rows(file: RowFile, rows: np.ndarray, label: np.ndarray, class_names: list[str],
            super_of: dict[str, str] | None = None) -> ImageList:
    """An ImageList of rows (n,) of a file and their classes (n,), ordered by class, then by row."""
    order = np.lexsort((rows, label))
    # one object a class, as millions of labels would take much memory otherwise
    numbers = list(range(len(class_names)))
    labels = [numbers[i] for i in label[order]]
    images = ImageList(RowPaths(file, rows[order]), labels, class_names)
    return with_supers(images, super_of)


def split_in_halves(source: Path, rows: Sequence[tuple[Path, str]],
                    super_of: dict[str, str] | None = None,
                    classes: Sequence[str] = ()) -> Splits:
    """The first half of the classes for training, the second for testing.

    `classes` gives their order; without it they are sorted. `source` is where they were read, for
    messages.
    """
    held = {name for _, name in rows}
    classes = classes or sorted(held)
    empty = [name for name in classes if name not in held]
    if empty:
        raise UsageError(f"{source}: {len(empty)} of {counted(len(classes), 'class')} have no images, the "
                         f"first is {empty[0]}; restore them, for the two halves would shift "
                         "without them.")
    first = set(classes[:len(classes) // 2])
    train = [row for row in rows if row[1] in first]
    test = [row for row in rows if row[1] not in first]
    return Splits(image_list(train, super_of), None, image_list(test, super_of))


def images_of_rows(images: ImageList, rows: Iterable[int]) -> ImageList:
    """The images of these rows, labelled anew; classes that are left without images disappear."""
    super_of = super_classes(images)
    if not isinstance(images.paths, RowPaths):
        named = [(images.paths[row], images.class_names[images.labels[row]]) for row in rows]
        return image_list(named, super_of)
    which = np.asarray(rows)
    held, label = np.unique(np.asarray(images.labels)[which], return_inverse=True)
    names = [images.class_names[i] for i in held]
    return of_rows(images.paths.file, images.paths.rows[which], label, names, super_of)


def mixed_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, near ones far apart (the finaliser of splitmix64
    after each).
    """
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


# ------------------------------------------------------------------------------------------- checks


def check(splits: Splits, training: bool = True, is_zero_shot: bool = True) -> Splits:
    """The splits themselves, when they can be tested on, and trained on with `training`; else a
    UsageError that says why not. is_zero_shot: no class may be in two splits.
    """
    present = splits.present()
    names = {name for images in present.values() for name in images.class_names}
    if training and len(names) == 1:
        raise UsageError(f"All images are of one class, {names.pop()}; a metric can only be learned from two "
                         "or more. To search images without training, use python -m evaluation.embed.")
    for name, images in present.items():
        if not images.paths and (training or name in ("test", "gallery")):
            raise UsageError(f"The {name} split has no images; put some there, or change the "
                             "split.")
    if training and len(splits.train.class_names) < 2:
        halves = (" Folders without a split need at least 4 classes: half of them train, the others "
                  "test.") if is_zero_shot else ""
        raise UsageError("The train split has a single class; a metric can only be learned from "
                         f"two or more.{halves}")
    if is_zero_shot:
        _check_disjoint(present)
    if splits.gallery is not None:
        _check_gallery(splits.test, splits.gallery)
    among_themselves = {"test": splits.gallery is None, "val": training}
    for name, holds in among_themselves.items():
        images = present.get(name)
        if holds and images and len(images.labels) == len(images.class_names):
            raise UsageError(f"Every class of the {name} split has a single image, so that no "
                             "image has another of its class to find; add images, or change the "
                             "split.")
    return splits


def _check_disjoint(present: dict[str, ImageList]) -> None:
    """No class is in two splits; queries and gallery count as one."""
    owner: dict[str, str] = {}
    for name, images in present.items():
        split = "test" if name == "gallery" else name
        for class_name in images.class_names:
            first = owner.setdefault(class_name, split)
            if first != split:
                raise UsageError(f"Class {class_name!r} is in the {first} split and in the {split} "
                                 "split; zero-shot retrieval needs disjoint classes: keep it in "
                                 "one.")


def _check_gallery(queries: ImageList, gallery: ImageList) -> None:
    """Queries and gallery are labelled alike, and some query has an image to find."""
    if queries.class_names != gallery.class_names:
        raise UsageError("The test split and its gallery number their classes differently; label "
                         "both by the classes of the two together.")
    if not set(queries.labels) & set(gallery.labels):
        raise UsageError("No class of the test split is in the gallery, so that no query has an "
                         "image to find; add images, or change the split.")


# --------------------------------------------------------------------------------------- validation


def split_validation(train: ImageList, fraction: float = 0.8, by_samples: bool = False,
                     seed: int = 0) -> tuple[ImageList, ImageList]:
    """Training images in two: those kept for training, and those to validate on.

    A random `fraction` of the classes is kept, and the other classes validate. With by_samples a
    random `fraction` of the images of every class is kept, at least one. The base framework keeps
    the first ones instead.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"--tv_split_perc {fraction}: give the share to keep for training, "
                         "between 0 and 1.")
    if not train.labels:
        raise UsageError("There are no training images to take validation images from.")
    label = torch.tensor(train.labels)
    generator = torch.Generator().manual_seed(mixed_seed(seed, len(label)))
    if by_samples:
        _, rank, count = ranked_within_class(label, generator)
        is_kept = rank < (fraction * count).floor().clamp(min=1)[label]  # (N,)
    else:
        classes = torch.randperm(int(label.max()) + 1, generator=generator)
        is_kept = torch.isin(label, classes[:round(fraction * len(classes))])  # (N,)
    kept = images_of_rows(train, is_kept.nonzero()[:, 0])
    val = images_of_rows(train, (~is_kept).nonzero()[:, 0])
    if len(kept.class_names) < 2 or len(val.labels) == len(val.class_names):
        raise UsageError(f"--tv_split_perc {fraction} of {len(train.class_names)} training classes "
                         "leaves fewer than 2 classes to train on or no two images of a class to "
                         "validate on; choose another share.")
    return kept, val


def ranked_within_class(label: Tensor, generator: torch.Generator | None = None,
                        ) -> tuple[Tensor, Tensor, Tensor]:
    """The rows sorted by class (N,), in random order within each where there is a generator; each
    row's place in its class (N,); class sizes (C,).
    """
    order = torch.arange(len(label))
    if generator:
        order = torch.randperm(len(label), generator=generator)
    order = order[label[order].argsort(stable=True)]  # (N,)
    count = torch.bincount(label)  # (C,)
    start = count.cumsum(0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(label)) - start[label[order]]
    return order, rank, count
