"""Stanford Online Products (Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016):
22,634 products of 12 kinds, of eBay's offers."""
from pathlib import Path

from datasets.base import ImageList, Splits, image_list
from datasets.files import Layout, inner_path, listed_files, read_layout, read_list
from utilities.errors import UsageError

COUNTS = {"train": (59551, 11318), "test": (60502, 11316)}                         # images, classes
FOLDERS = ("Stanford_Online_Products", "online_products", "sop")
COLUMNS = {"image_id": int, "class_id": int, "super_class_id": int, "path": inner_path}


def online_products(source_path: str | Path) -> Splits:
    """The split of Ebay_train.txt and Ebay_test.txt; super-classes are the kinds (bicycle, cabinet, ...).

    Layouts: Stanford_Online_Products/ of the archive (the lists and <kind>_final/), or the base framework's Info_Files/
    (the lists) and images/<kind>_final/.
    """
    return read_layout("online_products", source_path, FOLDERS, (
        Layout(("Ebay_train.txt",), lambda root: _read(root, root)),
        Layout(("Info_Files/Ebay_train.txt", "images"), lambda root: _read(root / "Info_Files", root / "images"))))


def _read(lists: Path, images: Path) -> Splits:
    """The splits of the two lists in one folder, of images in another."""
    train_source, test_source = lists / "Ebay_train.txt", lists / "Ebay_test.txt"
    train, test = read_list(train_source, COLUMNS), read_list(test_source, COLUMNS)
    if shared := {number for _, number, *_ in train} & {number for _, number, *_ in test}:
        raise UsageError(f"{test_source}: class {min(shared)} is in {train_source.name} too; zero-shot retrieval needs "
                         "disjoint classes: extract both lists from the archive again.")
    return Splits(_of_list(train_source, images, train), None, _of_list(test_source, images, test))


def _of_list(source: Path, images: Path, rows: list[tuple[int, int, int, str]]) -> ImageList:
    """The images of one list."""
    paths = listed_files(source, images, [path for *_, path in rows])
    kinds = [path.partition("/")[0].removesuffix("_final") for *_, path in rows]
    kind_of: dict[int, str] = {}
    for (_, number, *_), kind in zip(rows, kinds):
        if kind_of.setdefault(number, kind) != kind:
            raise UsageError(f"{source}: class {number} is of two kinds, {kind_of[number]} and {kind}; extract the "
                             "list from the archive again.")
    names = {number: f"{number:05d}.{kind}" for number, kind in kind_of.items()}
    return image_list(paths, [names[number] for _, number, *_ in rows],
                      {names[number]: kind for number, kind in kind_of.items()})
