"""The check of data sets: what is wrong with a tree, each thing by name, and what is merely
worth knowing.
"""
import hashlib
import shutil

import pytest
import torch

from datasets import cub200, in_shop, online_products
from datasets.decode import decode
from datasets.folders import images_below
from datasets.verify import Finding, examine, find, verify
from tests.datasets import trees
from tests.datasets.conftest import save_table, save_tree
from tests.datasets.pictures import save_jpeg, textured
from utilities.errors import UsageError

CUB = {"train": (16, 4), "test": (16, 4)}
LAYOUTS = {
    "cub200": (trees.cub_official, trees.cub_base),
    "cars196": (trees.cars_official, trees.cars_base),
    "online_products": (trees.sop_official, trees.sop_base),
    "in_shop": (trees.in_shop_official,),
}


@pytest.fixture
def cub(tmp_path, monkeypatch):
    """A sound tree of the archive's layout, with its own numbers as the known ones."""
    monkeypatch.setattr(cub200, "COUNTS", CUB)
    return trees.cub_official(tmp_path)


def test_a_sound_tree(cub):
    report = verify("cub200", cub.parent)
    assert report.problems == [] and report.notes == []
    assert report.rows == {
        split: {"images": "16", "classes": "4", "expected": "16 in 4"} for split in CUB
    }


def test_the_known_numbers(cub, monkeypatch):
    monkeypatch.undo()
    assert verify("cub200", cub).problems == [
        "train: 16 images instead of 5,864.", "train: 4 classes instead of 100.",
        "test: 16 images instead of 5,924.", "test: 4 classes instead of 100."]


def test_numbers_of_queries_and_gallery(tmp_path, monkeypatch):
    """Items of queries alone count in no gallery, though both share the numbering."""
    monkeypatch.setattr(in_shop, "COUNTS", {"train": (16, 4), "test": (9, 5), "gallery": (8, 4)})
    rows = [
        *trees.in_shop_rows(),
        ("img/MEN/Denim/id_00000009/01_1_front.jpg", "id_00000009", "query"),
    ]
    report = verify("in_shop", trees.in_shop_official(tmp_path, rows))
    assert report.problems == []
    assert report.rows["gallery"] == {"images": "8", "classes": "4", "expected": "8 in 4"}


def test_broken_images_are_all_listed(cub):
    images = images_below(cub)
    trees.save_jpeg(images[3], kind="truncated")
    images[20].write_bytes(b"")
    images[31].write_bytes(b"no image")
    problems = verify("cub200", cub).problems
    assert len(problems) == 3
    for problem, path in zip(problems, (images[3], images[20], images[31])):
        assert problem.startswith(f"{path}: this image cannot be decoded")


def test_bytes_lost_within_a_jpeg_are_noted(cub):
    """It decodes, so that training goes on; from there on the pixels are others."""
    pytest.importorskip("simplejpeg")
    path = images_below(cub)[5]
    sound = decode(save_jpeg(path, textured(120, 160)))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:middle + 400] = bytes(400)
    path.write_bytes(content)
    assert not torch.equal(decode(path), sound)
    report = verify("cub200", cub)
    assert report.problems == [] and len(report.notes) == 1
    assert report.notes[0].startswith(f"{path}: look at this image, which may be damaged within (")


def test_counts_and_broken_images_together(cub, monkeypatch):
    monkeypatch.setattr(cub200, "COUNTS", {"train": (17, 4), "test": (16, 5)})
    trees.save_jpeg(images_below(cub)[0], kind="truncated")
    problems = verify("cub200", cub).problems
    assert problems[:2] == ["train: 16 images instead of 17.", "test: 4 classes instead of "
                                                               "5."] and len(problems) == 3


def test_missing_images_do_not_hide_broken_ones(cub):
    images = images_below(cub)
    images[0].unlink()
    images[1].write_bytes(b"no image")
    report = verify("cub200", cub)
    assert len(report.problems) == 2
    assert (
        "1 of 32 images are missing" in report.problems[0] and str(images[0]) in report.problems[0]
    )
    assert str(images[1]) in report.problems[1]
    assert report.rows == {
        split: {"images": "-", "classes": "-", "expected": "16 in 4"} for split in CUB
    }


@pytest.mark.parametrize("trap, said", [("missing_class", "the folder of class 2 is missing"),
                                        ("empty_class", "002.Laysan_Albatross")])
def test_a_class_that_is_gone(trap, said, tmp_path):
    problems = verify("cub200", trees.cub_base(tmp_path, traps={trap})).problems
    assert len(problems) == 1 and said in problems[0]


def test_shared_classes(tmp_path):
    rows = [
        (f"class_{c}/{i}.png", f"class_{c}", "train" if c < 3 else "test")
        for c in range(6)
        for i in range(4)
    ]
    save_table(
        save_tree(tmp_path), [*rows[:-1], (*rows[-1][:2], "train")], ("path", "label", "split")
    )
    problems = verify("image_folder", tmp_path).problems
    assert len(problems) == 1 and "class_5" in problems[0]


def test_stray_files_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(cub200, "COUNTS", CUB)
    report = verify(
        "cub200", trees.cub_official(tmp_path, traps={"stray", "grey", "cmyk", "rotated", "spaces"})
    )
    assert report.problems == [] and report.notes == []


def test_images_in_no_split_are_counted(cub):
    folder = cub / "images" / "001.Black_footed_Albatross"
    for name in ("zz2.jpg", "zz1.jpg"):
        trees.save_jpeg(folder / name, seed=77)
    report = verify("cub200", cub)
    assert report.problems == []
    assert report.notes == [f"{cub / 'images'}: 2 images are in no split, the first is "
                            f"{folder / 'zz1.jpg'}."]


def test_the_same_image_in_two_splits(cub):
    images = images_below(cub)
    shutil.copy(images[2], images[30])
    # both train: not our business
    shutil.copy(images[4], images[5])
    report = verify("cub200", cub)
    assert report.problems == []
    assert report.notes == [f"The same image is {images[2]} (train) and {images[30]} (test)."]


def test_the_same_image_in_queries_and_gallery(tmp_path, monkeypatch):
    monkeypatch.setattr(in_shop, "COUNTS", {})
    own = trees.in_shop_official(tmp_path)
    images = [own / "Img" / image for image, _, status in trees.in_shop_rows() if status != "train"]
    shutil.copy(images[0], images[2])
    assert verify("in_shop", own).notes == [f"The same image is {images[0]} (test) and {images[2]} "
                                            "(gallery)."]


def test_own_images_have_no_known_numbers(tree):
    report = verify("image_folder", tree)
    assert report == (
        {"train": {"images": "12", "classes": "3"}, "test": {"images": "12", "classes": "3"}},
        [],
        [],
    )


def test_own_images_that_a_table_leaves_out(tree):
    save_table(tree, [(f"class_{c}/{i}.png", f"class_{c}") for c in range(4) for i in range(4)])
    assert verify("image_folder", tree).notes == [
        f"{tree}: 8 images are in no split, the first is {tree / 'class_4' / '0.png'}."]


@pytest.mark.parametrize("name", [*LAYOUTS, "image_folder"])
def test_nothing_there_is_wrong_usage(name, tmp_path):
    with pytest.raises(UsageError):
        verify(name, tmp_path / "none")
    assert find(name, tmp_path / "none") is None


@pytest.mark.parametrize(
    "name, make", [(name, make) for name, makers in LAYOUTS.items() for make in makers]
)
def test_a_data_set_is_found_in_every_layout(name, make, tmp_path):
    own = make(tmp_path)
    assert find(name, own) == find(name, own.parent) == own
    assert find(name, tmp_path / "none") is None
    if (own / "images").exists():
        assert find(name, own / "images") in (own / "images", own)


@pytest.mark.parametrize("workers", [0, 2])
def test_findings_are_in_order_for_any_number_of_workers(workers, tmp_path):
    paths = [
        trees.save_jpeg(tmp_path / f"{i}.jpg", seed=i, kind="truncated" if i == 40 else "rgb")
        for i in range(70)
    ]
    findings = examine(paths, workers)
    assert [finding.md5 for finding in findings] == [
        None if i == 40 else hashlib.md5(path.read_bytes()).hexdigest()
        for i, path in enumerate(paths)
    ]
    assert [i for i, finding in enumerate(findings) if finding.problem] == [40]
    assert isinstance(findings[0], Finding)


def test_nothing_is_written(cub):
    before = {path: path.stat().st_mtime_ns for path in cub.parent.rglob("*")}
    verify("cub200", cub)
    assert {path: path.stat().st_mtime_ns for path in cub.parent.rglob("*")} == before


def test_the_table_of_online_products(tmp_path):
    assert online_products.COUNTS
    assert verify("online_products", trees.sop_base(tmp_path)).rows["train"] == {
        "images": "32", "classes": "8", "expected": "59,551 in 11,318"}
