"""Stanford Online Products (Song et al., Deep Metric Learning via Lifted Structured Feature
Embedding, CVPR 2016).

22,634 products of 12 kinds, from offers on eBay.
"""
from pathlib import Path

from datasets.base import ImageList, Splits, image_list
from datasets.files import EXTRACT, inner_path, listed_files, read_layout, read_list
from utilities.errors import UsageError

# images, classes
COUNTS = {"train": (59551, 11318), "test": (60502, 11316)}
FOLDERS = ("Stanford_Online_Products", "online_products", "sop")
COLUMNS = {"image_id": int, "class_id": int, "super_class_id": int, "path": inner_path}


def online_products(source_path: str | Path) -> Splits:
    """The split of Ebay_train.txt and Ebay_test.txt; super-classes are the kinds (bicycle, cabinet,
    ...).

    Layouts: Stanford_Online_Products/ of the archive (the lists and <kind>_final/), or the base
    framework's Info_Files/ (the lists) and images/<kind>_final/.
    """
    return read_layout("online_products", source_path, FOLDERS, {
        ("Ebay_train.txt",): lambda root: _read(root, root),
        ("Info_Files/Ebay_train.txt", "images"):
            lambda root: _read(root / "Info_Files", root / "images")})


def _read(lists: Path, images: Path) -> Splits:
    """The splits of the two lists in one folder, of images in another."""
    train_list = lists / "Ebay_train.txt"
    test_list = lists / "Ebay_test.txt"
    train = read_list(train_list, COLUMNS)
    test = read_list(test_list, COLUMNS)
    shared = {row[1] for row in train} & {row[1] for row in test}
    if shared:
        raise UsageError(f"{test_list}: class {min(shared)} is in {train_list.name} too; zero-shot "
                         f"retrieval needs disjoint classes: {EXTRACT}.")
    return Splits(_of_list(train_list, images, train), None, _of_list(test_list, images, test))


def _of_list(source: Path, images: Path, rows: list[tuple[int, int, int, str]]) -> ImageList:
    """The images of one list."""
    paths = listed_files(source, images, [row[3] for row in rows])
    kind_of: dict[int, str] = {}
    for _, number, _, path in rows:
        kind = path.partition("/")[0].removesuffix("_final")
        if kind_of.setdefault(number, kind) != kind:
            raise UsageError(f"{source}: class {number} is of two kinds, {kind_of[number]} and "
                             f"{kind}; {EXTRACT}.")
    name_of = {number: f"{number:05d}.{kind}" for number, kind in kind_of.items()}
    super_of = dict(zip(name_of.values(), kind_of.values()))
    return image_list(zip(paths, [name_of[row[1]] for row in rows]), super_of)
