"""The images of a folder, and the class of each."""
import hashlib
import os
from pathlib import Path

from datasets import DATASETS, ImageList
from datasets.base import image_list
from datasets.files import IMAGE_SUFFIXES, images_below
from utilities.errors import UsageError


def collect(source: Path, split: str = "all") -> ImageList:
    """All images of a folder, or one split of them as `--dataset image_folder` divides it."""
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder; give one that holds images.")
    if split != "all":
        images = getattr(DATASETS["image_folder"](source), split)
        if images is None or not images.paths:
            raise UsageError(f"--split {split}: {source} has no such images; choose another "
                             "split.")
        return images
    named = _listed(source) if (source / "labels.csv").is_file() else _in_folders(source)
    if not named:
        raise UsageError(f"{source}: no images found; expected endings "
                         f"{' '.join(sorted(IMAGE_SUFFIXES))}.")
    return image_list(named)


def _listed(source: Path) -> list[tuple[Path, str]]:
    """Image and class of all splits, as labels.csv has them."""
    named = []
    for images in DATASETS["image_folder"](source):
        if images is not None:
            names = [images.class_names[label] for label in images.labels]
            named += zip(images.paths, names)
    return named


def _in_folders(source: Path) -> list[tuple[Path, str]]:
    """Image and class, which is the folder's path within the source, or the source's name."""
    own_name = source.resolve().name
    named = []
    for path in images_below(source):
        folder = path.parent
        is_source = folder == source
        named.append((path, own_name if is_source else folder.relative_to(source).as_posix()))
    return named


def fingerprint(images: ImageList) -> str:
    """Changes with the images, their order and classes, and the size and time of each file."""
    digest = hashlib.sha256()
    for path, label in zip(images.paths, images.labels):
        try:
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns)
        except OSError:
            # such as a link to nothing; decoding will name it
            state = None
        digest.update(os.fsencode(f"{path}\0{images.class_names[label]}\0{state}\n"))
    return f"{len(images.paths)} images, {digest.hexdigest()[:16]}"
