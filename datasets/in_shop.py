"""In-Shop Clothes Retrieval (Liu et al., DeepFashion, CVPR 2016): 7,982 pieces of clothing of 23
categories.
"""
from pathlib import Path

from datasets.base import Splits, image_list
from datasets.files import (
    EXTRACT,
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



def in_shop(source_path: str | Path) -> Splits:
    """The split of list_eval_partition.txt: its queries are the test images, to be searched in its
    gallery.

    A class is an item. Its super-class is the department and category, such as WOMEN/Dresses; the
    first in alphabetical order where an item has several. Layouts: Eval/list_eval_partition.txt or
    the list right in the folder; images in Img/img/ or img/.
    """
    return read_layout("in_shop", source_path, FOLDERS, {
        (f"Eval/{LIST}",): lambda root: _read(root, root / "Eval" / LIST),
        (LIST,): lambda root: _read(root, root / LIST)})


def _read(root: Path, source: Path) -> Splits:
    """The splits of one list."""
    # a status is its place in STATUS
    columns = {"image_name": _image, "item_id": str, "evaluation_status": STATUS.index}
    rows = read_list(source, columns, start=2)
    announced = read_lines(source)[0]
    if announced != str(len(rows)):
        raise UsageError(f"{source}, line 1: it announces {announced!r} images, but {len(rows)} "
                         f"follow; {EXTRACT}.")
    folder = root / "Img" if (root / "Img" / "img").is_dir() else root
    paths = listed_files(source, folder, [image for image, _, _ in rows])
    named = [[], [], []]
    category_of: dict[str, str] = {}
    for path, (image, item, status) in zip(paths, rows):
        named[status].append((path, item))
        category = _category(image)
        category_of[item] = min(category_of.get(item, category), category)
    train, queries, gallery = named
    tested = {item for _, item in queries + gallery}
    shared = tested & {item for _, item in train}
    if shared:
        raise UsageError(f"{source}: item {min(shared)} is both trained and tested on; zero-shot "
                         f"retrieval needs disjoint classes: {EXTRACT}.")
    return Splits(train=image_list(train, category_of), val=None,
                  test=image_list(queries, category_of, tested),
                  gallery=image_list(gallery, category_of, tested))


def _category(image):
    """Department and category of an image: WOMEN/Dresses of
    img/WOMEN/Dresses/id_00000002/02_1_front.jpg.
    """
    return "/".join(image.split("/")[1:-2])


def _image(text: str) -> str:
    """A path that has a category; a type for read_list."""
    if not _category(inner_path(text)):
        raise ValueError(text)
    return text

