"""What every data set is made of: lists of images by split, checked; and what a batch is."""
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from utilities.errors import UsageError


class Batch(NamedTuple):
    """image (B, 3, H, W) float; label (B,), the class within its split; index (B,), the row in the image list."""

    image: Tensor
    label: Tensor
    index: Tensor


class ImageList(NamedTuple):
    """The images of one split. Labels are 0-based and contiguous; class_names and super_labels are by label.

    Queries and gallery share one numbering, so that a class of one may have no image in the other.
    """

    paths: list[Path]
    labels: list[int]
    class_names: list[str]
    super_labels: list[int] | None = None
    super_names: list[str] | None = None


class Splits(NamedTuple):
    """Training, validation (or None) and test images.

    With a gallery the test images are queries, searched in it instead of among each other; both are labelled alike. A
    query whose class is not in the gallery has nothing to find and is in no metric, as the evaluation has it.
    """

    train: ImageList
    val: ImageList | None
    test: ImageList
    gallery: ImageList | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name} {len(images.paths)} images of {len(set(images.labels))} classes"
                         for name, images in self._asdict().items() if images is not None)


class Draw(NamedTuple):
    """One image of a training batch: which, and when it is drawn. It decides every random choice of its augmentation,
    so that these depend neither on the number of workers nor on what the training process draws meanwhile."""

    index: int
    epoch: int
    position: int


def image_list(paths: Sequence[Path], names: Sequence[str], super_of: dict[str, str] | None = None,
               classes: Collection[str] = ()) -> ImageList:
    """An ImageList from paths, their class names and the super-class of each class; the order is that of the names,
    then of the paths, whatever the order of the arguments. `classes` are counted too where they have no image."""
    rows = sorted(zip(names, paths), key=lambda row: (row[0], row[1].as_posix()))
    class_names = sorted({*names, *classes})
    label_of = {name: label for label, name in enumerate(class_names)}
    super_names = sorted({super_of[name] for name in class_names}) if super_of else None
    super_labels = [super_names.index(super_of[name]) for name in class_names] if super_of else None
    return ImageList(paths=[path for _, path in rows], labels=[label_of[name] for name, _ in rows],
                     class_names=class_names, super_labels=super_labels, super_names=super_names)


def halves(source: Path, paths: Sequence[Path], names: Sequence[str], super_of: dict[str, str] | None = None,
           classes: Sequence[str] | None = None) -> Splits:
    """The first half of the classes for training, the second for testing. `classes` gives their order, else they are
    sorted; `source` is where they were read, for messages."""
    classes = sorted(set(names)) if classes is None else classes
    if len(classes) < 4:
        raise UsageError(f"{source}: {len(classes)} classes found, at least 4 are needed (half of them train, the "
                         "others test); add classes, or give a labels.csv with a split column.")
    held = set(names)
    if empty := [name for name in classes if name not in held]:
        raise UsageError(f"{source}: {len(empty)} of {len(classes)} classes have no images, the first is {empty[0]}; "
                         "restore them, for the two halves would shift without them.")
    first = set(classes[:len(classes) // 2])
    half = [[row for row in zip(paths, names) if (row[1] in first) == of_train] for of_train in (True, False)]
    train, test = (image_list(*map(list, zip(*rows)), super_of) for rows in half)
    return Splits(train, None, test)


def subset(images: ImageList, rows: Sequence[int]) -> ImageList:
    """The images of these rows, labelled anew; classes that are left without images disappear."""
    names = [images.class_names[images.labels[row]] for row in rows]
    super_of = None
    if images.super_labels is not None:
        super_of = {name: images.super_names[of] for name, of in zip(images.class_names, images.super_labels)}
    return image_list([images.paths[row] for row in rows], names, super_of)


def mixed_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, near ones far apart (the finaliser of splitmix64 after each)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


def check(splits: Splits) -> Splits:
    """The splits themselves, when they can be trained and tested on; a UsageError that says why not otherwise."""
    named = {name: images for name, images in splits._asdict().items() if images is not None}
    for name, images in named.items():
        if not images.paths:
            raise UsageError(f"The {name} split has no images; put some there, or change the split.")
    if len(splits.train.class_names) < 2:
        raise UsageError("The train split has a single class; a metric can only be learned from two or more.")
    owner: dict[str, str] = {}
    for name, images in named.items():
        role = "test" if name == "gallery" else name
        for class_name in images.class_names:
            if owner.setdefault(class_name, role) != role:
                raise UsageError(f"Class {class_name!r} is in the {owner[class_name]} split and in the {role} split; "
                                 "zero-shot retrieval needs disjoint classes: keep it in one.")
    searched_alone = named.keys() - {"train", "gallery"}
    if splits.gallery is not None:
        _check_gallery(splits.test, splits.gallery)
        searched_alone -= {"test"}
    for name in sorted(searched_alone):
        if len(named[name].labels) == len(named[name].class_names):
            raise UsageError(f"Every class of the {name} split has a single image, so that no image has another of "
                             "its class to find; add images, or change the split.")
    return splits


def _check_gallery(queries: ImageList, gallery: ImageList) -> None:
    """Queries and gallery are labelled alike, and some query has an image to find."""
    if queries.class_names != gallery.class_names:
        raise UsageError("The test split and its gallery number their classes differently; label both by the classes "
                         "of the two together.")
    if not set(queries.labels) & set(gallery.labels):
        raise UsageError("No class of the test split is in the gallery, so that no query has an image to find; add "
                         "images, or change the split.")


def split_validation(train: ImageList, fraction: float = 0.8, by_samples: bool = False,
                     seed: int = 0) -> tuple[ImageList, ImageList]:
    """Training images in two: those kept for training and those to validate on.

    `fraction` of the classes is kept, drawn at random, and the other classes validate; with by_samples, `fraction` of
    the images of every class (at least one) is kept. As in the base framework, but there the first ones are kept.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"--tv_split_perc {fraction}: give the share to keep for training, between 0 and 1.")
    label = torch.tensor(train.labels)
    generator = torch.Generator().manual_seed(mixed_seed(seed, len(label)))
    kept = _keep_samples(label, fraction, generator) if by_samples else _keep_classes(label, fraction, generator)
    parts = [subset(train, part.nonzero()[:, 0].tolist()) for part in (kept, ~kept)]
    if len(parts[0].class_names) < 2 or len(parts[1].labels) == len(parts[1].class_names):
        raise UsageError(f"--tv_split_perc {fraction} of {len(train.class_names)} training classes leaves fewer than 2 "
                         "classes to train on or no two images of a class to validate on; choose another share.")
    return parts[0], parts[1]


def _keep_classes(label: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """True for the images of a random `fraction` of the classes."""
    classes = int(label.max()) + 1
    kept = torch.randperm(classes, generator=generator)[:round(fraction * classes)]
    return torch.isin(label, kept)                                                 # (N,)


def _keep_samples(label: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """True for a random `fraction` of the images of every class, at least one."""
    _, rank, count = ranked_within_class(label, generator)
    return rank < (fraction * count[label]).floor().clamp(min=1)                   # (N,)


def ranked_within_class(label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The rows sorted by class, in random order within each (N,); each row's place within its class (N,); the number
    of rows by class (C,)."""
    shuffled = torch.randperm(len(label), generator=generator)
    order = shuffled[label[shuffled].argsort(stable=True)]                         # (N,)
    count = torch.bincount(label)                                                  # (C,)
    start = count.cumsum(0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(label)) - start[label[order]]
    return order, rank, count
