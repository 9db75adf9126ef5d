"""The parsers of the real data sets on tiny trees: both layouts, what they ignore, what they
refuse and how they say so.
"""
import os
import pickle
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from datasets import (
    DATASETS,
    cars196,
    cub200,
    decode,
    files,
    in_shop,
    online_products,
    select,
    split_validation,
)
from datasets.folders import images_below
from tests.datasets import trees
from utilities.errors import RunError, UsageError

TREES = {
    "cub200-official": ("cub200", trees.cub_official),
    "cub200-base": ("cub200", trees.cub_base),
    "cars196-official": ("cars196", trees.cars_official),
    "cars196-base": ("cars196", trees.cars_base),
    "sop-official": ("online_products", trees.sop_official),
    "sop-base": ("online_products", trees.sop_base),
    "in_shop-official": ("in_shop", trees.in_shop_official),
    "in_shop-root": (
        "in_shop",
        lambda root, **more: trees.in_shop_official(root, at_root=True, **more),
    ),
}
every_tree = pytest.mark.parametrize("name, make", TREES.values(), ids=TREES)


def contents(splits, root):
    """Splits with paths relative to the root, so that trees can be compared."""
    return [
        None
        if part is None
        else part._replace(paths=[path.relative_to(root).as_posix() for path in part.paths])
        for part in splits
    ]


def classes_of(images):
    """File name and class name of every image."""
    return {
        path.name: images.class_names[label] for path, label in zip(images.paths, images.labels)
    }


def refused(name, source, *said):
    """The one sentence with which a source is refused; it holds all of `said`."""
    with pytest.raises(UsageError) as caught:
        select(name, source)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    for word in said:
        assert str(word) in sentence, sentence
    return sentence


# ------------------------------------------------------------------------------------- what is read


@every_tree
def test_every_layout_gives_sound_splits(name, make, tmp_path):
    splits = select(name, make(tmp_path))
    for images in (splits.train, splits.test):
        assert len(images.paths) == len(images.labels) == len(set(images.paths)) > 0
        assert sorted(set(images.labels)) == list(range(len(images.class_names)))
        assert all(decode.decode(path).shape[0] == 3 for path in images.paths)
    assert not set(splits.train.class_names) & set(splits.test.class_names)
    assert splits.val is None and (splits.gallery is None) == (name != "in_shop")


@pytest.mark.parametrize("make", [trees.cub_official, trees.cub_base])
def test_cub(make, tmp_path):
    train, _, test, _ = select("cub200", make(tmp_path, classes=10, images=3))
    assert train.class_names == [
        "001.Black_footed_Albatross",
        "002.Laysan_Albatross",
        "003.Sooty_Albatross",
        "004.Groove_billed_Ani",
        "005.Crested_Auklet",
    ]
    assert test.class_names[0] == "006.Least_Auklet" and test.class_names[4] == "010.Bird_10"
    for images in (train, test):
        assert (
            images.labels == [label for label in range(5) for _ in range(3)]
            and images.super_labels is None
        )
        assert [path.parent.name for path in images.paths] == [
            images.class_names[label] for label in images.labels
        ]


def test_cub_follows_the_lists_and_not_the_folders(tmp_path):
    root = trees.cub_official(tmp_path)
    lines = (root / "image_class_labels.txt").read_text().splitlines()
    trees.write_lines(root / "image_class_labels.txt", ["1 8", *reversed(lines[1:])])
    train, _, test, _ = select("cub200", root)
    assert len(train.paths) == 15 and test.labels.count(3) == 5
    assert classes_of(test)["Black_Footed_Albatross_0001_796100.jpg"] == "008.Rhinoceros_Auklet"


@pytest.mark.parametrize("make", [trees.cars_official, trees.cars_base])
def test_cars(make, tmp_path):
    train, _, test, _ = select("cars196", make(tmp_path))
    names = {car: (f"{number:03d}." if make is trees.cars_official else "") + car.replace("/", "-")
             for number, car in enumerate(trees.CARS, start=1)}
    assert train.class_names == sorted(names[car] for car in trees.CARS[:4])
    assert test.class_names == sorted(names[car] for car in trees.CARS[4:])
    for images, first in ((train, 1), (test, 17)):
        assert classes_of(images) == {
            f"{i:06d}.jpg": names[trees.CARS[(i - 1) // 4]] for i in range(first, first + 16)
        }
        assert images.super_labels is None


def test_cars_halves_go_by_the_class_number(tmp_path):
    """As in the true list, whose order is not quite the alphabet's."""
    names = ["Z 2012", "B 2012", "C 2012", "A 2012"]
    trees.save_cars_annotations(tmp_path / "cars_annos.mat", [f"car_ims/{i}.jpg" for i in range(8)],
                                [0, 0, 1, 1, 2, 2, 3, 3], names)
    trees.save_jpegs([(tmp_path / "car_ims" / f"{i}.jpg", 0) for i in range(8)])
    train, _, test, _ = select("cars196", tmp_path)
    assert (train.class_names, test.class_names) == (
        ["001.Z 2012", "002.B 2012"],
        ["003.C 2012", "004.A 2012"],
    )


@pytest.mark.parametrize("make", [trees.sop_official, trees.sop_base])
def test_online_products(make, tmp_path):
    splits = select("sop", make(tmp_path, supers=12))
    rows = trees.sop_rows(12, 2, 4)
    for split, first in (("train", 1), ("test", 25)):
        images = getattr(splits, split)
        assert len(images.paths) == 96 and len(images.class_names) == 24
        assert images.super_names == list(trees.PRODUCTS)
        assert images.class_names[0] == f"{first:05d}.bicycle"
        kind_of = [trees.PRODUCTS[row[2] - 1] for row in rows[split]]
        assert classes_of(images) == {
            Path(row[3]).name: f"{row[1]:05d}.{kind}" for row, kind in zip(rows[split], kind_of)
        }
        for path, label in zip(images.paths, images.labels):
            assert path.parent.name == images.super_names[images.super_labels[label]] + "_final"
    assert str(splits) == "train 96 images of 24 classes, test 96 images of 24 classes"


def test_in_shop(tmp_path):
    rows = trees.in_shop_rows(items=5, images=6, queries=2)
    splits = select("in_shop", trees.in_shop_official(tmp_path, rows))
    for split, status, count in (
        ("train", "train", 30),
        ("test", "query", 10),
        ("gallery", "gallery", 20),
    ):
        images = getattr(splits, split)
        found = {
            (
                path.relative_to(tmp_path / "in_shop" / "Img").as_posix(),
                images.class_names[label],
                status,
            )
            for path, label in zip(images.paths, images.labels)
        }
        assert len(images.paths) == count and found == {row for row in rows if row[2] == status}
        for path, label in zip(images.paths, images.labels):
            assert images.super_names[images.super_labels[label]] in path.as_posix()
    assert splits.train.class_names == [f"id_{i:08d}" for i in range(1, 6)]
    assert (
        splits.test.class_names
        == splits.gallery.class_names
        == [f"id_{i:08d}" for i in range(6, 11)]
    )
    assert str(splits) == ("train 30 images of 5 classes, test 10 images of 5 classes, "
                           "gallery 20 images of 5 classes")


def test_in_shop_items_of_queries_or_gallery_alone_share_the_numbering(tmp_path):
    rows = trees.in_shop_rows(items=3)
    rows = [
        row for row in rows if row[1:] not in (("id_00000004", "gallery"), ("id_00000006", "query"))
    ]
    _, _, test, gallery = splits = select("in_shop", trees.in_shop_official(tmp_path, rows))
    assert test.class_names == gallery.class_names == ["id_00000004", "id_00000005", "id_00000006"]
    assert set(test.labels) == {0, 1} and set(gallery.labels) == {1, 2}
    assert test.super_names == gallery.super_names and test.super_labels == gallery.super_labels
    assert str(splits).endswith("test 4 images of 2 classes, gallery 4 images of 2 classes")


def test_in_shop_item_of_two_categories_counts_under_the_first(tmp_path):
    rows = trees.in_shop_rows()
    rows[0] = ("img/WOMEN/Tees/id_00000001/01_1_front.jpg", *rows[0][1:])
    train = select("in_shop", trees.in_shop_official(tmp_path, rows)).train
    assert train.super_names[train.super_labels[0]] == "MEN/Denim" and len(train.class_names) == 4


@pytest.mark.parametrize("one, other, name", [(trees.cub_official, trees.cub_base, "cub200"),
                                              (trees.sop_official, trees.sop_base, "sop")])
def test_both_layouts_give_the_same(one, other, name, tmp_path):
    one = contents(select(name, one(tmp_path)), tmp_path)
    other = contents(select(name, other(tmp_path)), tmp_path)
    for images, same in zip(one[::2], other[::2]):
        assert images[1:] == same[1:]
        assert [Path(path).parts[-2:] for path in images.paths] == [
            Path(path).parts[-2:] for path in same.paths
        ]


def test_counts_add_up_to_the_published_totals():
    totals = {module: tuple(map(sum, zip(*module.COUNTS.values())))
              for module in (cub200, cars196, online_products, in_shop)}
    assert totals[cub200] == (11788, 200) and totals[cars196] == (16185, 196)
    assert totals[online_products] == (120053, 22634)
    assert (
        totals[in_shop][0] == 52712
        and in_shop.COUNTS["train"][1] + in_shop.COUNTS["test"][1] == 7982
    )


# --------------------------------------------------------------------------------- where it may lie


@every_tree
def test_the_folder_that_holds_it_will_do(name, make, tmp_path):
    own = make(tmp_path)
    assert select(name, own) == select(name, tmp_path) == select(name, str(tmp_path))


@pytest.mark.parametrize("tree", ["cub200-official", "cub200-base", "cars196-base"])
def test_the_folder_of_images_will_do(tree, tmp_path, monkeypatch):
    name, make = TREES[tree]
    own = make(tmp_path)
    assert select(name, own / "images") == select(name, own)
    monkeypatch.chdir(own / "images")
    assert contents(select(name, "."), own) == contents(select(name, own), own)


def test_another_name_of_the_folder_will_do(tmp_path):
    before = contents(select("sop", trees.sop_base(tmp_path)), tmp_path / "online_products")
    (tmp_path / "online_products").rename(tmp_path / "mine")
    assert contents(select("sop", tmp_path / "mine"), tmp_path / "mine") == before


@pytest.mark.parametrize("name, wanted", [
    ("cub200", "images.txt"), ("cars196", "cars_annos.mat"), ("sop", "Ebay_train.txt"),
    ("in_shop", "list_eval_partition.txt")])
def test_a_set_that_is_not_there_is_one_sentence_with_the_command(name, wanted, tmp_path):
    known = "online_products" if name == "sop" else name
    command = f"python -m datasets.prepare {known} --source_path {tmp_path}"
    refused(name, tmp_path, tmp_path, wanted, command)
    refused(name, tmp_path / "nowhere", "no such folder", "--source_path", command + "/nowhere")


def test_cars_with_one_of_the_two_downloads(tmp_path):
    root = trees.cars_official(tmp_path)
    (root / "cars_annos.mat").unlink()
    refused("cars196", tmp_path, "car_ims and cars_annos.mat")


# ---------------------------------------------------------------------------------- what is ignored


@every_tree
def test_stray_files_change_nothing(name, make, tmp_path):
    own = make(tmp_path)
    before = select(name, own)
    trees.add_stray_files(own)
    trees.save_jpeg(own / "images" / "@eaDir" / "thumbnail.jpg")
    assert select(name, own) == before


@pytest.mark.parametrize(
    "tree", ["cub200-official", "cars196-official", "sop-official", "in_shop-official"]
)
def test_images_that_no_list_names_are_ignored(tree, tmp_path):
    name, make = TREES[tree]
    own = make(tmp_path)
    before = select(name, own)
    for path in before.train.paths[::5]:
        trees.save_jpeg(path.with_name("further.jpg"))
    assert select(name, own) == before


@every_tree
def test_order_does_not_depend_on_the_file_system(name, make, tmp_path, monkeypatch):
    own = make(tmp_path / "one")
    other = make(tmp_path / "other", backwards=True)
    before = contents(select(name, own), own)
    scan = os.scandir
    names = os.listdir

    @contextmanager
    def backwards(folder):
        with scan(folder) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(os, "scandir", backwards)
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(names(folder), reverse=True))
    assert contents(select(name, other), other) == before


@pytest.mark.parametrize("make", [trees.cub_official, trees.cub_base])
def test_images_of_every_kind_and_a_name_with_spaces(make, tmp_path):
    root = make(tmp_path, traps=("grey", "cmyk", "rotated", "truncated", "spaces", "stray"))
    images = select("cub200", root).train
    assert len(images.paths) == 16
    first = [path for path, label in zip(images.paths, images.labels) if label == 0]
    assert "Black Footed Albatross 0002 796101.jpg" in [path.name for path in first]
    shape = {
        path.stem[-6:]: decode.decode(path).shape
        for path in first
        if not path.stem.endswith("796103")
    }
    assert shape == {"796100": (3, 30, 40), "796101": (3, 30, 40), "796102": (3, 40, 30)}
    with pytest.raises(RunError, match="796103.jpg"):
        decode.decode(first[-1])


def test_endings_count_in_any_case_and_an_empty_file_is_an_image(tmp_path):
    root = trees.cub_base(tmp_path)
    before = select("cub200", root).train.paths
    before[0].rename(before[0].with_suffix(".JPG"))
    # decoding names it; parsing does not
    before[1].write_bytes(b"")
    assert [path.stem for path in select("cub200", root).train.paths] == [
        path.stem for path in before
    ]


def test_numbered_folders_go_by_number(tmp_path):
    for number in range(1, 13):
        trees.save_jpegs(
            [(tmp_path / "images" / f"{number}.x" / f"{i}.jpg", number) for i in range(2)]
        )
    train, _, test, _ = select("cub200", tmp_path)
    assert set(train.class_names) == {f"{number}.x" for number in range(1, 7)}
    assert set(test.class_names) == {f"{number}.x" for number in range(7, 13)}


def test_images_below(tmp_path):
    for path in ("a/1.jpg", "a/b/2.PNG", "3.jpeg", ".hidden/4.jpg", "__MACOSX/5.jpg"):
        trees.save_jpeg(tmp_path / path)
    trees.add_stray_files(tmp_path / "a")
    assert [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path)] == [
        "3.jpeg",
        "a/1.jpg",
        "a/b/2.PNG",
    ]


# ------------------------------------------------------------------------------------------- damage


def replace_line(path, number, text):
    """Line `number` of a file, from 1, by another text; None takes it away."""
    lines = path.read_text().splitlines()
    lines[number - 1:number] = [] if text is None else [text]
    trees.write_lines(path, lines)


@pytest.mark.parametrize(
    "tree, victim, said",
    [
        (
            "cub200-official",
            "images/003.Sooty_Albatross/Sooty_Albatross_0002_796121.jpg",
            "images.txt",
        ),
        ("cars196-official", "car_ims/000007.jpg", "cars_annos.mat"),
        ("sop-official", "cabinet_final/111085122003_2.JPG", "Ebay_train.txt"),
        ("sop-base", "images/chair_final/111085122014_0.JPG", "Ebay_test.txt"),
        (
            "in_shop-official",
            "Img/img/WOMEN/Dresses/id_00000003/01_2_side.jpg",
            "list_eval_partition.txt",
        ),
        ("in_shop-root", "img/MEN/Denim/id_00000005/01_4_full.jpg", "list_eval_partition.txt"),
    ],
)
def test_a_missing_image_is_named(tree, victim, said, tmp_path):
    name, make = TREES[tree]
    own = make(tmp_path)
    (own / victim).unlink()
    refused(name, own, own / victim, said, "1 of 32 images are missing")


def test_missing_folders_count_their_images(tmp_path):
    own = trees.sop_official(tmp_path)
    shutil.rmtree(own / "chair_final")
    refused("sop", own, "8 of 32 images are missing", "chair_final/111085122005_0.JPG")
    own = trees.cub_official(tmp_path, traps=["missing_class"])
    refused("cub200", own, "4 of 32 images are missing", "002.Laysan_Albatross")


@pytest.mark.parametrize("traps, said", [(["missing_class"], "folder of class 2 is missing"),
                                         (["empty_class"], "1 of 8 classes have no images, the "
                                                           "first is 002.Laysan")])
def test_class_folders_that_are_missing_or_empty(traps, said, tmp_path):
    root = trees.cub_base(tmp_path, traps=traps)
    refused("cub200", tmp_path, root / "images", said)


def test_a_class_without_a_line_in_the_lists(tmp_path):
    own = trees.cub_official(tmp_path)
    replace_line(own / "classes.txt", 8, "8 008.Rhinoceros_Auklet\n9 009.Brewer_Blackbird")
    refused("cub200", own, own / "images.txt", "1 of 9 classes have no images, the first is "
                                               "009.Brewer_Blackbird")


def test_an_empty_folder_of_cars(tmp_path):
    root = trees.cars_base(tmp_path)
    (root / "images" / "Audi S6 Sedan 2011").mkdir()
    refused("cars196", tmp_path, root / "images", "the first is Audi S6 Sedan 2011")


LINES = [
    ("cub200-official", "images.txt", 5, "5", "line 5"),
    ("cub200-official", "images.txt", 5, "five 001.x/y.jpg", "line 5"),
    ("cub200-official", "images.txt", 5, "5 ../../outside.jpg", "line 5"),
    ("cub200-official", "images.txt", 5, "5 /etc/outside.jpg", "line 5"),
    ("cub200-official", "images.txt", 5, "4 001.x/y.jpg", "31 different numbers"),
    ("cub200-official", "image_class_labels.txt", 7, "7", "line 7"),
    ("cub200-official", "image_class_labels.txt", 7, None, "image 7 (002.Laysan_Albatross/"),
    ("cub200-official", "classes.txt", 3, None, "class 3 has no name"),
    ("sop-official", "Ebay_train.txt", 9, "8 2 1", "line 9"),
    ("sop-official", "Ebay_train.txt", 9, "8 two 1 bicycle_final/1.JPG", "line 9"),
    ("sop-base", "Info_Files/Ebay_test.txt", 2, "33 9 1 ../1.JPG", "line 2"),
    (
        "sop-base",
        "Info_Files/Ebay_test.txt",
        2,
        "33 8 1 bicycle_final/111085122009_0.JPG",
        "class 8 is in Ebay_train",
    ),
    (
        "sop-base",
        "Info_Files/Ebay_test.txt",
        2,
        "33 9 1 bicycle_final/111085122009_1.JPG",
        "named twice",
    ),
    (
        "sop-official",
        "Ebay_train.txt",
        2,
        "1 3 2 bicycle_final/111085122001_0.JPG",
        "class 3 is of two kinds",
    ),
    (
        "in_shop-official",
        "Eval/list_eval_partition.txt",
        4,
        "img/MEN/Denim/id_00000001/01_2_side.jpg id_1",
        "line 4",
    ),
    (
        "in_shop-official",
        "Eval/list_eval_partition.txt",
        4,
        "img/MEN/Denim/id_1/1.jpg id_1 test",
        "line 4",
    ),
    ("in_shop-official", "Eval/list_eval_partition.txt", 4, "img/1.jpg id_1 train", "line 4"),
    (
        "in_shop-official",
        "Eval/list_eval_partition.txt",
        4,
        None,
        "announces '32' images, but 31 follow",
    ),
    (
        "in_shop-root",
        "list_eval_partition.txt",
        3,
        "img/MEN/Denim/id_00000001/01_1_front.jpg id_00000001 query",
        "item id_00000001 is both",
    ),
]


@pytest.mark.parametrize("tree, victim, number, text, said", LINES)
def test_a_damaged_list_is_named_with_its_line(tree, victim, number, text, said, tmp_path):
    name, make = TREES[tree]
    own = make(tmp_path)
    replace_line(own / victim, number, text)
    refused(name, own, own / victim, said)


@pytest.mark.parametrize(
    "tree, victim",
    [
        ("cub200-official", "classes.txt"),
        ("cub200-official", "image_class_labels.txt"),
        ("cub200-official", "images.txt"),
        ("sop-official", "Ebay_test.txt"),
        ("in_shop-root", "list_eval_partition.txt"),
    ],
)
def test_an_unreadable_list_is_named(tree, victim, tmp_path):
    name, make = TREES[tree]
    own = make(tmp_path)
    for damage in (b"\xff\xfe\x00no text", b""):
        (own / victim).write_bytes(damage)
        refused(name, own, own / victim)
    (own / victim).unlink()
    (own / victim).mkdir()
    refused(name, own, own / victim, "cannot be read")


def test_lists_may_end_their_lines_as_windows_does(tmp_path):
    own = trees.sop_official(tmp_path)
    before = select("sop", own)
    for path in own.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert select("sop", own) == before


def test_a_tree_of_too_few_classes(tmp_path):
    refused("cub200", trees.cub_base(tmp_path, classes=2), "single class", "at least 4")


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


def damaged_tables(folder):
    """Bytes that are no table of CARS196, by what they are."""
    trees.save_cars_annotations(
        folder / "good.mat", ["car_ims/1.jpg"] * 4, [0, 1, 2, 3], trees.CARS[:4]
    )
    savemat(folder / "other.mat", {"annotations": np.arange(3)})
    good = (folder / "good.mat").read_bytes()
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    return {
        "cut": good[:300],
        "flipped": good[:200] + bytes([good[200] ^ 255]) + good[201:],
        "text": b"<html>",
        "empty": b"",
        "version_7": header + b"\x89HDF\r\n\x1a\n",
        "other": (folder / "other.mat").read_bytes(),
        "pickle": pickle.dumps(Trap(folder / "made")),
    }


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "text", "empty", "version_7", "other", "pickle"]
)
def test_an_unreadable_table_of_cars_is_named_and_never_executed(damage, tmp_path):
    own = trees.cars_official(tmp_path)
    (own / "cars_annos.mat").write_bytes(damaged_tables(tmp_path)[damage])
    refused("cars196", own, own / "cars_annos.mat", "fetch it again")
    assert not (tmp_path / "made").exists()


def test_a_table_of_cars_that_is_wrong(tmp_path):
    table = tmp_path / "cars_annos.mat"
    images = [f"car_ims/{i}.jpg" for i in range(8)]
    trees.save_jpegs([(tmp_path / name, 0) for name in images])
    for names, labels, classes, said in (
            (images, [0, 0, 1, 1, 2, 2, 4, 4], 4, "class 5 has no name"),
            (images, [0, 0, 1, 1, 2, 2, 2, 2], 4, "the first is 004.Acura Integra"),
            (["../1.jpg", *images[1:]], [0, 0, 1, 1, 2, 2, 3, 3], 4, "../1.jpg"),
            (["car_ims/9.jpg", *images[1:]], [0, 0, 1, 1, 2, 2, 3, 3], 4, "1 of 8 images are "
                                                                          "missing")):
        trees.save_cars_annotations(table, names, labels, trees.car_names(classes))
        refused("cars196", tmp_path, table, said)


def test_a_class_name_is_a_name_of_one_folder():
    assert cars196.class_name(173, "Ram C/V Cargo Van Minivan "
                                   "2012") == "173.Ram C-V Cargo Van Minivan 2012"
    assert Path(cars196.class_name(1, "../../x\\y\0")).name == "001...-..-x-y-"


def test_a_table_of_one_image_and_one_class(tmp_path):
    path = trees.save_cars_annotations(tmp_path / "one.mat", ["car_ims/1.jpg"], [0], ["A 2012"])
    assert cars196.read_annotations(path) == (["car_ims/1.jpg"], ["001.A 2012"], ["001.A 2012"])


PARTS = st.lists(
    st.sampled_from(["a", "..", ".", "", "C:", "b c", "\\", "..\\..", "\0"]), min_size=1, max_size=5
)


@given(PARTS.map("/".join))
def test_no_path_of_a_list_leads_outside(text):
    try:
        inner = files.inner_path(text)
    except ValueError:
        assert text.startswith("/") or set(text.split("/")) & {"..", "C:", "\\", "..\\..", "\0"}
        return
    assert os.path.normpath(f"/root/set/{inner}").startswith("/root/set")


# --------------------------------------------------------------------------------------- validation


@pytest.mark.parametrize("by_samples", [False, True])
@pytest.mark.parametrize("name, "
                         "make", [("sop", trees.sop_official), ("in_shop", trees.in_shop_official)])
def test_validation_keeps_super_classes_and_gallery(name, make, by_samples, tmp_path):
    splits = select(name, make(tmp_path))
    train, val = split_validation(splits.train, 0.5, by_samples, seed=1)
    super_of = dict(
        zip(
            splits.train.class_names,
            (splits.train.super_names[of] for of in splits.train.super_labels),
        )
    )
    for part in (train, val):
        assert {
            name: part.super_names[of] for name, of in zip(part.class_names, part.super_labels)
        } == {name: super_of[name] for name in part.class_names}
        assert sorted(set(part.labels)) == list(range(len(part.class_names)))
    assert sorted(train.paths + val.paths) == sorted(splits.train.paths)
    assert bool(set(train.class_names) & set(val.class_names)) == by_samples
    after = splits._replace(train=train, val=val)
    assert (after.gallery, after.test) == (splits.gallery, splits.test)


def test_names_of_the_command():
    assert DATASETS["sop"] is DATASETS["online_products"]
    with pytest.raises(UsageError, match="Did you mean cub200"):
        select("cub20", ".")
