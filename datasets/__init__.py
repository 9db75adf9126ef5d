"""Images by split: parsers, the built-in glyphs, transforms, samplers, loaders."""
from pathlib import Path

from datasets import cars196, cub200, glyphs, image_folder, in_shop, online_products
from datasets.base import Batch, ImageList, Splits, check, split_validation
from datasets.images import ImageDataset
from datasets.loader import batches, make_loader
from utilities.registry import lookup

DATASETS = {
    "cars196": cars196.cars196,
    "cub200": cub200.cub200,
    "glyphs": glyphs.glyphs,
    "image_folder": image_folder.image_folder,
    "in_shop": in_shop.in_shop,
    "online_products": online_products.online_products,
    "sop": online_products.online_products,
}

__all__ = ["DATASETS", "Batch", "ImageDataset", "ImageList", "Splits", "batches", "check",
           "make_loader", "select", "split_validation"]


def select(name: str, source_path: str | Path, **kwargs) -> Splits:
    """The checked splits of the data set of this name; kwargs are further arguments of its
    function.
    """
    parser = lookup(DATASETS, name, kind="data set", flag="--dataset")
    return check(parser(source_path=source_path, **kwargs))
