"""The parser of your own images: both layouts, what it ignores, what it refuses and how it says
so.
"""
import errno
import os
import shutil

import pytest

from datasets import DATASETS, check, select
from datasets.decode import ImageError, decode
from datasets.image_folder import image_folder
from parameters import get_options
from tests.datasets.conftest import save_image, save_table, save_tree
from training.building import read_splits
from utilities.errors import UsageError

NAMES = [f"class_{c}" for c in range(6)]


def rows_of(columns=2):
    """A row for each image of the tree: path, label, super-label, split."""
    split = ["train", "train", "train", "val", "test", "test"]
    return [
        (f"class_{c}/{i}.png", NAMES[c], f"super_{c % 2}", split[c])[:columns]
        for c in range(6)
        for i in range(4)
    ]


def refused(source, *said):
    """The one sentence with which a source is refused; it holds all of `said`."""
    with pytest.raises(UsageError) as caught:
        select("image_folder", source)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    for word in said:
        assert str(word) in sentence
    return sentence


def test_folders_first_half_trains(tree):
    train, val, test, _ = image_folder(tree)
    assert train.class_names == NAMES[:3] and test.class_names == NAMES[3:] and val is None
    assert train.labels == test.labels == [0] * 4 + [1] * 4 + [2] * 4
    assert [path.relative_to(tree).as_posix() for path in train.paths[:5]] == [
        "class_0/0.png", "class_0/1.png", "class_0/2.png", "class_0/3.png", "class_1/0.png"]
    assert train.super_labels is None


def test_odd_number_of_classes(tree):
    shutil.rmtree(tree / "class_5")
    train, _, test, _ = image_folder(tree)
    assert (len(train.class_names), len(test.class_names)) == (2, 3)


def test_order_does_not_depend_on_creation(tree, tmp_path):
    other = save_tree(tmp_path / "other", backwards=True)
    for one, two in zip(image_folder(tree)[::2], image_folder(other)[::2]):
        assert [path.relative_to(tree) for path in one.paths] == [
            path.relative_to(other) for path in two.paths
        ]
        assert one.labels == two.labels


def test_stray_files_are_no_images(tree):
    before = image_folder(tree)
    for stray in ("._0.png", ".DS_Store", "Thumbs.db", "notes.txt", "desktop.ini"):
        (tree / "class_0" / stray).write_bytes(b"x")
        (tree / stray).write_bytes(b"x")
    save_image(tree / "loose.png")
    save_image(tree / ".hidden" / "0.png")
    save_image(tree / "__MACOSX" / "0.png")
    (tree / "class_0" / "folder.png").mkdir()
    (tree / "a_empty").mkdir()
    assert image_folder(tree) == before


def test_links_are_images_and_one_that_leads_nowhere_is_named(tree):
    (tree / "class_0" / "0.png").rename(tree.parent / "moved.png")
    (tree / "class_0" / "0.png").symlink_to(tree.parent / "moved.png")
    before = image_folder(tree)
    (tree.parent / "moved.png").unlink()
    assert image_folder(tree) == before
    with pytest.raises(ImageError, match=f"{before.train.paths[0]}: the image is gone"):
        decode(before.train.paths[0])
    (tree / "class_0" / "folder.png").symlink_to(tree)
    assert image_folder(tree) == before


@pytest.mark.parametrize("name", ["class_1", "class_1/0.png"])
def test_names_that_are_no_text_are_refused_before_a_run_stumbles_over_them(tree, name):
    odd = os.fsencode(tree / name) + b"\xff.png"
    os.rename(tree / name, odd)
    refused(tree, os.fsdecode(odd), "not in UTF-8", "rename")


def test_endings_in_capitals_count(tree):
    (tree / "class_0" / "0.png").rename(tree / "class_0" / "0.PNG")
    assert len(image_folder(tree).train.paths) == 12


def test_table_without_split(tree):
    by_folder = image_folder(tree)
    save_table(tree, list(reversed(rows_of(3))), ("path", "label", "super_label"))
    by_table = image_folder(tree)
    assert by_table.train.super_names == ["super_0", "super_1"]
    assert by_table.train.super_labels == [0, 1, 0] and by_table.test.super_labels == [1, 0, 1]
    for one, two in zip(by_folder[::2], by_table[::2]):
        assert one[:3] == two[:3]


def test_validation_images_of_the_table_stay(tree, capsys):
    save_table(tree, rows_of(4), ("path", "label", "super_label", "split"))
    argv = ["--dataset", "image_folder", "--source_path", str(tree), "--use_tv_split"]
    splits = read_splits(get_options(argv))
    assert (splits.train.class_names, splits.val.class_names) == (NAMES[:3], NAMES[3:4])
    assert "the table names validation images" in capsys.readouterr().out


def test_table_with_split_and_labels_start_at_zero_in_each(tree):
    save_table(tree, rows_of(4), ("path", "label", "super_label", "split"))
    train, val, test, _ = select("image_folder", tree)
    assert (train.class_names, val.class_names, test.class_names) == (
        NAMES[:3],
        NAMES[3:4],
        NAMES[4:],
    )
    assert val.labels == [0] * 4 and test.labels == [0] * 4 + [1] * 4
    assert (val.super_labels, val.super_names) == ([0], ["super_1"])


def test_table_with_byte_order_mark_spaces_and_windows_separators(tree):
    lines = ["path, label"] + [f"{path.replace('/', chr(92))}, "
                               f"{label} " for path, label in rows_of()]
    (tree / "labels.csv").write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n\r\n").encode())
    train, _, test, _ = image_folder(tree)
    assert train.class_names + test.class_names == NAMES and len(train.paths) == 12


def test_unknown_data_set():
    assert {
        "glyphs",
        "image_folder",
        "cub200",
        "cars196",
        "online_products",
        "sop",
        "in_shop",
    } <= set(DATASETS)
    with pytest.raises(UsageError, match="Did you mean glyphs"):
        select("glyps", ".")


def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", tmp_path / "nowhere", "no such folder", "--source_path")


def test_no_images(tmp_path):
    (tmp_path / "class_0").mkdir()
    (tmp_path / "class_0" / "readme.txt").write_text("x")
    refused(tmp_path, tmp_path, "no images", "<class>")


def test_too_few_classes(tmp_path):
    refused(save_tree(tmp_path, classes=3), "single class", "at least 4")


@pytest.mark.parametrize("columns, said", [
    (("file", "label"), "no column path"),
    (("path", "class"), "no column label"),
    (("a", "b"), "no column path and no column label"),
])
def test_missing_column(tree, columns, said):
    refused(save_table(tree, rows_of(), columns), "labels.csv", said)


def test_empty_tables(tree):
    refused(save_table(tree, []), "names no images")
    (tree / "labels.csv").write_text("")
    refused(tree, "no column path")
    (tree / "labels.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    refused(tree, "UTF-8")


def test_a_table_that_cannot_be_read(tree, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    save_table(tree, rows_of())
    monkeypatch.setattr(type(tree), "open", refuse)
    refused(tree, "labels.csv", "Permission denied")


def test_missing_files_are_counted(tree):
    (tree / "class_1" / "2.png").unlink()
    (tree / "class_4" / "0.png").unlink()
    refused(save_table(tree, rows_of()), "2 of 24 files", "line 8", tree / "class_1" / "2.png")


@pytest.mark.parametrize("value", ["valid", "", "Train"])
def test_unknown_split(tree, value):
    rows = rows_of(4)
    rows[5] = (*rows[5][:3], value)
    refused(
        save_table(tree, rows, ("path", "label", "super_label", "split")),
        "line 7",
        repr(value),
        "train, val or",
    )


def test_class_in_two_splits(tree):
    rows = rows_of(4)
    rows[0] = (*rows[0][:3], "test")
    refused(save_table(tree, rows, ("path", "label", "super_label", "split")), "line 3",
            "'class_0'", "'train' here", "'test' in line 2")


def test_class_in_two_super_classes(tree):
    rows = rows_of(3)
    rows[0] = (*rows[0][:2], "super_1")
    refused(save_table(tree, rows, ("path", "label", "super_label")), "line 3",
            "'class_0'", "'super_0' here", "'super_1' in line 2")


@pytest.mark.parametrize(
    "path",
    [
        "../tree/class_0/0.png",
        "class_0/../class_0/0.png",
        "/etc/hostname",
        "C:\\images\\0.png",
        "..\\tree\\class_0\\0.png",
    ],
)
def test_path_that_leaves_the_folder(tree, path):
    refused(save_table(tree, [(path, "class_0"), *rows_of()[1:]]), "line 2", path, "leaves the "
                                                                                   "folder")


def test_empty_field_and_short_row(tree):
    refused(save_table(tree, [*rows_of(), ("class_0/0.png", " ")]), "line 26", "label is empty")
    refused(save_table(tree, [*rows_of(), ("class_0/0.png",)]), "line 26", "label is empty")


def test_columns_that_stand_twice_and_fields_that_have_none(tree):
    refused(save_table(tree, rows_of(3), ("path", "label", "label")), "column label stands twice")
    refused(
        save_table(tree, [*rows_of(), ("class_0/0.png", "Doe", " John")]),
        "line 26",
        "more fields",
        "quotes",
    )
    # as some spreadsheets end a line
    rows = [(*row, "", "") for row in rows_of()]
    assert len(image_folder(save_table(tree, rows, ("path", "label", "", ""))).train.paths) == 12
    assert len(image_folder(save_table(tree, rows)).train.paths) == 12


def test_a_name_that_no_file_can_have(tree):
    refused(
        save_table(tree, [("a" * 5000, "class_0"), *rows_of()]),
        "1 of 25 files are missing",
        "line 2",
    )


def test_image_named_twice(tree):
    refused(
        save_table(tree, [*rows_of(), ("class_0/./0.png", "class_5")]),
        "line 26",
        "line 2",
        "nearest neighbour",
    )


def test_split_without_training_or_test_images(tree):
    only = [(*row[:2], "train") for row in rows_of()]
    refused(save_table(tree, only, ("path", "label", "split")), "test split has no images")
    only = [(*row[:2], "test") for row in rows_of()]
    refused(save_table(tree, only, ("path", "label", "split")), "train split has no images")


def test_checked_splits_come_back(tree):
    splits = image_folder(tree)
    assert check(splits) is splits
