"""In-Shop Clothes Retrieval (Liu et al., DeepFashion, CVPR 2016): 7,982 pieces of clothing of 23 categories."""
from pathlib import Path

from datasets.base import ImageList, Splits, image_list
from datasets.files import Layout, inner_path, listed_files, read_layout, read_lines, read_list
from utilities.errors import UsageError

COUNTS = {"train": (25882, 3997), "test": (14218, 3985), "gallery": (12612, 3985)}  # images, classes
FOLDERS = ("in_shop", "In-shop Clothes Retrieval Benchmark", "Inshop_Clothes")
LIST = "list_eval_partition.txt"
STATUS = ("train", "query", "gallery")

Row = tuple[str, str, str]                                                         # image, item, status


def in_shop(source_path: str | Path) -> Splits:
    """The split of list_eval_partition.txt: its queries are the test images, to be searched in its gallery. A class is
    an item, its super-class the department and category (WOMEN/Dresses; the first by the alphabet where an item has
    several).

    Layouts: Eval/list_eval_partition.txt or the list right in the folder; images in Img/img/ or img/.
    """
    return read_layout("in_shop", source_path, FOLDERS, (
        Layout((f"Eval/{LIST}",), lambda root: _read(root, root / "Eval" / LIST)),
        Layout((LIST,), lambda root: _read(root, root / LIST))))


def _read(root: Path, source: Path) -> Splits:
    """The splits of one list."""
    rows = _rows(source)
    paths = listed_files(source, root / "Img" if (root / "Img" / "img").is_dir() else root, [row[0] for row in rows])
    category_of: dict[str, str] = {}
    for image, item, _ in rows:
        category = _category(image)
        category_of[item] = min(category_of.get(item, category), category)
    tested = {item for _, item, status in rows if status != "train"}
    if shared := tested & {item for _, item, status in rows if status == "train"}:
        raise UsageError(f"{source}: item {min(shared)} is both trained and tested on; zero-shot retrieval needs "
                         "disjoint classes: extract the list from the archive again.")

    def of_status(status: str, classes: set[str]) -> ImageList:
        chosen = [(path, item) for path, (_, item, own) in zip(paths, rows) if own == status]
        return image_list([path for path, _ in chosen], [item for _, item in chosen], category_of, classes)

    return Splits(of_status("train", set()), None, of_status("query", tested), of_status("gallery", tested))


def _rows(source: Path) -> list[Row]:
    """The rows of the list, as many as its first line says."""
    rows = read_list(source, {"image_name": _image, "item_id": str, "evaluation_status": _status}, start=2)
    said = read_lines(source)[0]
    if said != str(len(rows)):
        raise UsageError(f"{source}, line 1: it announces {said!r} images, but {len(rows)} follow; extract the list "
                         "from the archive again.")
    return rows


def _category(image: str) -> str:
    """Department and category of an image: WOMEN/Dresses of img/WOMEN/Dresses/id_00000002/02_1_front.jpg."""
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
