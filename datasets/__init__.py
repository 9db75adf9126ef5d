"""Images by split: parsers, the built-in glyphs, transforms, samplers, loaders."""
from pathlib import Path

from datasets import (
    cars196,
    cub200,
    embeddings,
    glyphs,
    image_folder,
    in_shop,
    online_products,
)
from datasets.all_classes import with_all_classes
from datasets.base import Batch, ImageList, Splits, check, split_validation
from datasets.benchmarks import known_counts, wrong_counts
from datasets.images import ImageDataset
from datasets.loader import batches, make_loader
from utilities.errors import UsageError
from utilities.registry import lookup

DATASETS = {
    "cars196": cars196.cars196,
    "cub200": cub200.cub200,
    "embeddings": embeddings.embeddings,
    "glyphs": glyphs.glyphs,
    "image_folder": image_folder.image_folder,
    "in_shop": in_shop.in_shop,
    "online_products": online_products.online_products,
    "sop": online_products.online_products,
}

__all__ = ["DATASETS", "Batch", "ImageDataset", "ImageList", "Splits", "batches", "check",
           "make_loader", "select", "split_validation"]


def select(name: str, source_path: str | Path, *, training: bool = True,
           train_on_all: bool = False, test_by_images: float | None = None, **kwargs) -> Splits:
    """The checked splits of the data set of this name; kwargs are further arguments of its
    function. training: whether they must serve to train, not only to test. train_on_all,
    test_by_images: see with_all_classes. Prints a line where a benchmark is not whole.
    """
    parser = lookup(DATASETS, name, kind="data set", flag="--dataset")
    usual = parser(source_path=source_path, **kwargs)
    splits = with_all_classes(usual, test_by_images) if train_on_all else usual
    try:
        check(splits, training, is_zero_shot=not train_on_all)
    except UsageError as error:
        raise UsageError(f"{source_path}: {error}") from None
    counts = {split: images.counts() for split, images in usual.present().items()}
    if wrong := wrong_counts(counts, known_counts(name)):
        print(f"note: this is not the whole of {name} ({', '.join(wrong)}), so that its metrics "
              "cannot be compared with published ones.")
    return splits
