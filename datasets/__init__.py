"""Images by split: parsers, the embedded glyphs, transforms, samplers, loaders."""
from pathlib import Path

from datasets import glyphs, image_folder
from datasets.base import Batch, ImageList, Splits, check, split_validation
from datasets.images import ImageDataset
from datasets.loader import batches, make_loader
from utilities.registry import lookup

DATASETS = {"glyphs": glyphs.glyphs, "image_folder": image_folder.image_folder}

__all__ = ["DATASETS", "Batch", "ImageDataset", "ImageList", "Splits", "batches", "check", "make_loader", "select",
           "split_validation"]


def select(name: str, source_path: str | Path, **kwargs) -> Splits:
    """The checked splits of the data set of this name; kwargs are the further arguments of its function."""
    return check(lookup(DATASETS, name, kind="data set", flag="--dataset")(source_path=source_path, **kwargs))
