"""In-Shop Clothes Retrieval (Liu et al., DeepFashion, CVPR 2016): 7,982 pieces of clothing of 23
categories.
"""
from pathlib import Path
from typing import NamedTuple

from datasets.base import ImageList, Splits, image_list
from datasets.files import (
    EXTRACT,
    Layout,
    inner_path,
    listed_files,
    read_layout,
    read_lines,
    read_list,
)
from utilities.errors import UsageError

# images, classes
COUNTS = {"train": (25882, 3997), "test": (14218, 3985), "gallery": (12612, 3985)}
FOLDERS = ("in_shop", "In-shop Clothes Retrieval Benchmark", "Inshop_Clothes")
LIST = "list_eval_partition.txt"
STATUS = ("train", "query", "gallery")


class Row(NamedTuple):
    """One image: its path in the list, its item (the class), and one of STATUS."""

    image: str
    item: str
    status: str


def in_shop(source_path: str | Path) -> Splits:
    """The split of list_eval_partition.txt: its queries are the test images, to be searched in its
    gallery.

    A class is an item. Its super-class is the department and category, such as WOMEN/Dresses; the
    first in alphabetical order where an item has several. Layouts: Eval/list_eval_partition.txt or
    the list right in the folder; images in Img/img/ or img/.
    """
    return read_layout("in_shop", source_path, FOLDERS, (
        Layout((f"Eval/{LIST}",), lambda root: _read(root, root / "Eval" / LIST)),
        Layout((LIST,), lambda root: _read(root, root / LIST))))


def _read(root: Path, source: Path) -> Splits:
    """The splits of one list."""
    rows = _rows(source)
    folder = root / "Img" if (root / "Img" / "img").is_dir() else root
    paths = listed_files(source, folder, [row.image for row in rows])
    category_of: dict[str, str] = {}
    for row in rows:
        category = _category(row.image)
        category_of[row.item] = min(category_of.get(row.item, category), category)
    trained = {row.item for row in rows if row.status == "train"}
    tested = {row.item for row in rows if row.status != "train"}
    shared = trained & tested
    if shared:
        raise UsageError(f"{source}: item {min(shared)} is both trained and tested on; zero-shot "
                         f"retrieval needs disjoint classes: {EXTRACT}.")

    def of_status(status: str, classes: set[str]) -> ImageList:
        items = [row.item for row in rows if row.status == status]
        own = [path for path, row in zip(paths, rows) if row.status == status]
        return image_list(own, items, category_of, classes)

    return Splits(train=of_status("train", trained), val=None, test=of_status("query", tested),
                  gallery=of_status("gallery", tested))


def _rows(source: Path) -> list[Row]:
    """The rows of the list, as many as its first line says."""
    columns = {"image_name": _image, "item_id": str, "evaluation_status": _status}
    rows = read_list(source, columns, start=2)
    announced = read_lines(source)[0]
    if announced != str(len(rows)):
        raise UsageError(f"{source}, line 1: it announces {announced!r} images, but {len(rows)} "
                         f"follow; {EXTRACT}.")
    return [Row(*row) for row in rows]


def _category(image: str) -> str:
    """Department and category of an image: WOMEN/Dresses of
    img/WOMEN/Dresses/id_00000002/02_1_front.jpg.
    """
    return "/".join(image.split("/")[1:-2])


def _image(text: str) -> str:
    """A path that has a category; a type for read_list."""
    if not _category(inner_path(text)):
        raise ValueError(text)
    return text


def _status(text: str) -> str:
    """One of STATUS; a type for read_list."""
    if text not in STATUS:
        raise ValueError(text)
    return text
