"""Which images a folder holds, and their classes: the same for training, embedding and the check."""
import os
import shutil

import pytest

from datasets import DATASETS, prepare, select
from datasets.folders import contents, images_by_class, refuse_within, within
from datasets.image_folder import image_folder
from evaluation.embed.collect import collect
from tests.datasets import trees
from tests.datasets.conftest import save_image, save_table, save_tree
from utilities.errors import UsageError


def by_name(images):
    """(path, class) of each image of a list."""
    return [(path, images.class_names[label]) for path, label in zip(images.paths, images.labels)]


def seen_in_training(source):
    splits = DATASETS["image_folder"](source)
    return sorted(by_name(splits.train) + by_name(splits.test))


def assert_same_everywhere(source, number):
    seen = seen_in_training(source)
    assert len(seen) == number
    assert sorted(by_name(collect(source))) == seen


def test_linked_class_folders_are_read_by_all(tree, tmp_path):
    view = tmp_path / "view"
    view.mkdir()
    for folder in tree.iterdir():
        (view / folder.name).symlink_to(folder)
    assert_same_everywhere(view, 24)
    assert {path.parent.parent for path, _ in seen_in_training(view)} == {view}


def test_images_below_a_class_folder_are_of_its_class(tree):
    save_image(tree / "class_0" / "more" / "deep" / "0.png")
    save_image(tree / "class_6" / "only" / "0.png")
    assert_same_everywhere(tree, 26)
    classes = images_by_class(tree)
    assert classes["class_0"][-1] == tree / "class_0" / "more" / "deep" / "0.png"
    assert classes["class_6/only"] == [tree / "class_6" / "only" / "0.png"]


@pytest.mark.parametrize("name, place", [
    ("a/b.png", "a/b.png"), ("a\\b.png", "a/b.png"), ("x\\y.png", "x\\y.png"), ("c:1.png", "c:1.png"),
    ("d:2.png", None), ("C:/b.png", None), ("C:\\b.png", None), ("/a/b.png", None), ("\\a\\b.png", None),
    ("../b.png", None), ("a\\..\\..\\b.png", None), ("//host/share/b.png", None), ("", "."),
])
@pytest.mark.skipif(os.name != "posix", reason="names with these characters exist on POSIX alone")
def test_names_in_a_table_are_files_below_its_folder(name, place, tmp_path):
    """One that a file bears is that file's, though it would be a path of Windows."""
    for own in ("x\\y.png", "c:1.png"):
        (tmp_path / own).touch()
    assert within(tmp_path, name) == (None if place is None else tmp_path / place)


def test_links_that_lead_round_are_followed_once(tree):
    (tree / "class_0" / "up").symlink_to(tree)
    (tree / "class_1" / "top").symlink_to("/")
    (tree / "class_2" / "self").symlink_to("self")
    (tree / "class_3" / "other").symlink_to(tree / "class_4")
    (tree / "class_4" / "other").symlink_to(tree / "class_3")
    counts = {name: len(paths) for name, paths in images_by_class(tree).items()}
    assert counts == {f"class_{c}": 8 if c in (3, 4) else 4 for c in range(6)}


@pytest.mark.parametrize("name", [
    "$RECYCLE.BIN", "__MACOSX", ".thumbnails", ".Trash-1000", "@eaDir", "System Volume Information",
    "lost+found", "#recycle"])
def test_what_systems_leave_behind_is_no_class(tree, name, capsys):
    save_image(tree / name / "0.png")
    save_image(tree / "class_0" / name / "0.png")
    assert_same_everywhere(tree, 24)
    assert not capsys.readouterr().out


def test_what_is_not_read_is_counted_by_ending(tree, capsys):
    for name in ("a.HEIC", "b.heic", "c.txt", "README"):
        (tree / "class_0" / name).write_bytes(b"x")
    save_image(tree / "loose.png")
    os.mkfifo(tree / "class_1" / "pipe.png")
    assert_same_everywhere(tree, 24)
    training, embedding = capsys.readouterr().out.splitlines()
    assert training == embedding
    assert f"{tree}: 6 files are not read: 2 .heic, " in training
    for words in ("1 .txt", "1 without ending", "1 .png beside the class folders",
                  "1 pipe or device"):
        assert words in training
    prepare.main(["image_folder", "--source_path", str(tree), "--kernels", "0"])
    assert training in capsys.readouterr().out.splitlines()


def test_without_other_files_there_is_no_line(tree, capsys):
    image_folder(tree)
    assert capsys.readouterr().out == ""


def test_names_of_endings_do_not_reach_the_terminal(tree, capsys):
    (tree / "class_0" / "x.\x1b[31mred").write_bytes(b"x")
    image_folder(tree)
    assert "\x1b" not in capsys.readouterr().out


def test_a_single_folder_is_one_class(tree):
    assert collect(tree / "class_0").class_names == ["class_0"]
    assert contents(tree / "class_0").others.total() == 0


def test_folders_of_splits_are_no_classes(tree, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(tree, tmp_path / "splits" / split)
    with pytest.raises(UsageError, match="train holds class folders as a split does"):
        image_folder(tmp_path / "splits")


@pytest.mark.parametrize("name", ["Labels.CSV", "LABELS.csv"])
def test_a_table_in_capitals_is_read(tree, name):
    rows = [(f"class_{c}/{i}.png", f"l{c}") for c in range(6) for i in range(2)]
    save_table(tree, rows, name=name)
    assert_same_everywhere(tree, 12)
    assert image_folder(tree).train.class_names == ["l0", "l1", "l2"]


@pytest.mark.parametrize("name", ["labels.csv.gz", "Labels.tsv", "labels.xlsx"])
def test_another_table_is_named_as_not_read(tree, name, capsys):
    (tree / name).write_bytes(b"x")
    image_folder(tree)
    assert f"note: {tree / name} is not read; a table must be" in capsys.readouterr().out


def test_two_tables_are_refused(tree):
    for name in ("Labels.csv", "LABELS.csv"):
        (tree / name).write_text("path,label\n")
    with pytest.raises(UsageError, match="both tables"):
        image_folder(tree)


def test_a_part_of_a_benchmark_is_named(tmp_path, capsys):
    trees.cub_base(tmp_path, classes=150, images=1)
    DATASETS["cub200"](tmp_path)
    trees.cub_base(tmp_path, classes=150, images=2)
    select("cub200", tmp_path)
    said = capsys.readouterr().out
    assert "not the whole of cub200" in said
    assert "train: 150 images instead of 5,864, train: 75 classes instead of 100" in said


def test_a_folder_of_other_images_says_nothing_of_benchmarks(tmp_path, capsys):
    select("image_folder", save_tree(tmp_path))
    assert capsys.readouterr().out == ""


def test_a_folder_with_a_table_of_its_own_may_hold_what_is_written(tmp_path):
    inside = tmp_path / "runs"
    with pytest.raises(UsageError, match="--out .* lies in"):
        refuse_within("--out", inside, tmp_path)
    (tmp_path / "Labels.CSV").write_text("path,label\n")
    refuse_within("--out", inside, tmp_path)
