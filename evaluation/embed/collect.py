"""The images of a folder, and of which class each is."""
import hashlib
import os
from pathlib import Path

from datasets import DATASETS, ImageList
from datasets.base import image_list
from datasets.files import IMAGE_SUFFIXES, images_below
from utilities.errors import UsageError


def collect(source: Path, split: str = "all") -> ImageList:
    """The images of a folder: those of one split as `--dataset image_folder` divides it, or all of them."""
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder; give one that holds images.")
    if split != "all":
        images = getattr(DATASETS["image_folder"](source), split)
        if images is None or not images.paths:
            raise UsageError(f"--split {split}: {source} has no such images; choose another split.")
        return images
    if (source / "labels.csv").is_file():
        parts = [part for part in DATASETS["image_folder"](source) if part is not None]
        named = [(path, part.class_names[label]) for part in parts for path, label in zip(part.paths, part.labels)]
    else:
        named = [(path, _folder_name(path.parent, source)) for path in images_below(source)]
    if not named:
        raise UsageError(f"{source}: no images found; expected endings {' '.join(sorted(IMAGE_SUFFIXES))}.")
    return image_list(named)


def _folder_name(folder: Path, source: Path) -> str:
    """The class of the images that lie in a folder: its path within the source, or the source's own name."""
    return source.resolve().name if folder == source else folder.relative_to(source).as_posix()


def fingerprint(images: ImageList) -> str:
    """Changes with the images that are listed, their order and classes, and the size and time of each file."""
    digest = hashlib.sha256()
    for path, label in zip(images.paths, images.labels):
        try:
            found = path.stat()
            state = (found.st_size, found.st_mtime_ns)
        except OSError:   # a link to nothing, say; decoding will name it
            state = None
        digest.update(os.fsencode(f"{path}\0{images.class_names[label]}\0{state}\n"))
    return f"{len(images.paths)} images, {digest.hexdigest()[:16]}"
