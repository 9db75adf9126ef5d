"""Which images a run has seen, in few bytes, to tell later whether they are the same."""
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.base import ImageList, Splits
from datasets.row_paths import RowPaths


def image_record(splits: Splits) -> dict[str, dict]:
    """By split: how many images each class has, and a digest of their names, labels and order.

    Names begin below the folder that holds all images, so that the record stays the same when
    the whole data set is moved.
    """
    present = splits.present()
    if isinstance(splits.train.paths, RowPaths):
        return {name: record_of_rows(images) for name, images in present.items()}
    paths = [path for images in present.values() for path in images.paths]
    root = len(common_folder(paths))
    return {name: record_of(images, root) for name, images in present.items()}


def common_folder(paths: Sequence[Path]) -> str:
    """The innermost folder that holds all paths."""
    return os.path.commonpath({os.path.abspath(path.parent) for path in paths})


def record_of_rows(images: ImageList) -> dict:
    """The record of a split of rows of a file, which has been read once."""
    digest = hashlib.sha256(images.paths.file.digest.encode())
    digest.update(np.ascontiguousarray(images.paths.rows))
    digest.update(np.array(images.labels))
    return {"counts": counts_of(images), "digest": digest.hexdigest()}


def counts_of(images: ImageList) -> list[int]:
    """How many images each class has."""
    return np.bincount(images.labels, minlength=len(images.class_names)).tolist()


def record_of(images: ImageList, root: int) -> dict:
    """The record of one split; root: characters of the common folder."""
    digest = hashlib.sha256()
    for path, label in zip(images.paths, images.labels):
        name = Path(os.path.abspath(path)[root:]).as_posix()
        digest.update(f"{label} {name}\0".encode(errors="surrogateescape"))
    return {"counts": counts_of(images), "digest": digest.hexdigest()}
