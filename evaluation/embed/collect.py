"""The images of a folder, and the class of each."""
import hashlib
import os
from pathlib import Path

from datasets import DATASETS, ImageList
from datasets.all_classes import named
from datasets.base import image_list
from datasets.embeddings import all_rows, is_row_file
from datasets.folders import find_table, images_by_class
from datasets.formats import suffixes
from datasets.identity import record_of_rows
from datasets.row_paths import RowPaths
from utilities.errors import UsageError


def collect(source: Path, split: str = "all") -> ImageList:
    """All images of a folder, or one split of them as `--dataset image_folder` divides it; or the rows
    of a .npy file, as `--dataset embeddings` does.
    """
    if is_row_file(source):
        return all_rows(source) if split == "all" else _of_split("embeddings", source, split)
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder; give one that holds images.")
    if split != "all":
        return _of_split("image_folder", source, split)
    if find_table(source):
        rows = _listed(source)
    else:
        # as training has them
        rows = [(path, name) for name, paths in images_by_class(source).items() for path in paths]
    if not rows:
        raise UsageError(f"{source}: no images found; expected endings "
                         f"{' '.join(sorted(suffixes()))}.")
    return image_list(rows)


def _of_split(dataset: str, source: Path, split: str) -> ImageList:
    """One split, as the data set of this name divides the source."""
    images = getattr(DATASETS[dataset](source), split)
    if images is None or not images.paths:
        raise UsageError(f"--split {split}: {source} has no such images; choose another split.")
    return images


def _listed(source: Path) -> list[tuple[Path, str]]:
    """Image and class of all splits, as labels.csv has them."""
    splits = DATASETS["image_folder"](source).present()
    return [row for images in splits.values() for row in named(images)]


def fingerprint(images: ImageList) -> str:
    """Changes with the images, their order and classes, and the size and time of each file."""
    digest = hashlib.sha256()
    if isinstance(images.paths, RowPaths):
        record = record_of_rows(images)["digest"]
        return f"{len(images.paths)} rows, {record[:16]}"
    for path, label in zip(images.paths, images.labels):
        try:
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns)
        except OSError:
            # such as a link to nothing; decoding will name it
            state = None
        digest.update(os.fsencode(f"{path}\0{images.class_names[label]}\0{state}\n"))
    return f"{len(images.paths)} images, {digest.hexdigest()[:16]}"
