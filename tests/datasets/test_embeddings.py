"""A file of rows as a data set: what is read, how it is split, and what is refused."""
import csv

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets import batches, select, split_validation
from datasets.base import Draw
from datasets.embeddings import embeddings
from datasets.identity import image_record
from datasets.row_paths import Texts
from datasets.rows import file_loader
from utilities.errors import UsageError

# class of each row, in no order
CLASSES = ["d", "a", "c", "b", "a", "d", "b", "c", "c", "b", "a", "d"]


def write(folder, rows, columns):
    """rows.npy and labels.csv; columns: by name, a value for each row."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "rows.npy", rows)
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
    return folder / "rows.npy"


@pytest.fixture
def rows():
    """(12, 3): row i holds i, and its square."""
    i = np.arange(12.)
    return np.stack([i, i**2, -i], 1)


def read(images):
    """What a loader gives of them: (N, F) and the names of the classes."""
    batch = list(batches(file_loader(images, batch_size=5)))
    label = torch.cat([one.label for one in batch]).tolist()
    return torch.cat([one.image for one in batch]), [images.class_names[i] for i in label]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_rows_of_a_half_come_by_class_then_in_the_order_of_the_file(tmp_path, rows, dtype):
    path = write(tmp_path, rows.astype(dtype), {"label": CLASSES})
    splits = embeddings(path)
    for images, names in ((splits.train, "ab"), (splits.test, "cd")):
        expected = [i for name in names for i in range(12) if CLASSES[i] == name]
        values, classes = read(images)
        assert values.dtype == torch.float32
        assert values.tolist() == rows[expected].tolist()
        assert classes == [CLASSES[i] for i in expected]
        assert [str(path) for path in images.paths] == [f"row {i}" for i in expected]
    assert splits.val is None


def test_a_column_splits(tmp_path, rows):
    split_of = {"a": "test", "b": "train", "c": "val", "d": "train"}
    split = [split_of[name] for name in CLASSES]
    splits = select("embeddings", write(tmp_path, rows, {"label": CLASSES, "split": split}))
    assert [images.class_names for images in splits[:3]] == [["b", "d"], ["c"], ["a"]]


def test_the_folder_and_files_of_embed_are_read(tmp_path, rows):
    number = [sorted(set(CLASSES)).index(name) for name in CLASSES]
    names = [f"{name}/{i}.png" for i, name in enumerate(CLASSES)]
    write(tmp_path, rows, {"path": names, "label": number, "class": CLASSES})
    (tmp_path / "rows.npy").rename(tmp_path / "embeddings.npy")
    np.save(tmp_path / "other.npy", rows)
    (tmp_path / "embeddings.json").write_text('{"images": "/photos"}')
    train = embeddings(tmp_path).train
    assert train.class_names == ["a", "b"]
    assert [path.as_posix() for path in train.paths][:2] == ["/photos/a/1.png", "/photos/a/4.png"]
    assert not train.paths.are_images()


def test_images_are_those_below_the_folder_alone(tmp_path, rows):
    inside = tmp_path / "set"
    names = [f"{i}.png" for i in range(12)]
    path = write(inside, rows, {"path": names, "label": CLASSES})
    for name in names:
        (inside / name).touch()
        (tmp_path / name).touch()
    assert embeddings(path).test.paths.are_images()
    write(inside, rows, {"path": [f"../{name}" for name in names], "label": CLASSES})
    assert not embeddings(path).test.paths.are_images()


def test_super_classes_are_those_of_the_classes(tmp_path, rows):
    of_class = {"a": "x", "b": "y", "c": "y", "d": "x"}
    columns = {"label": CLASSES, "super_label": [of_class[name] for name in CLASSES]}
    splits = embeddings(write(tmp_path, rows, columns))
    for images in splits[0], splits[2]:
        supers = [images.super_names[i] for i in images.super_labels]
        assert dict(zip(images.class_names, supers)).items() <= of_class.items()


@pytest.mark.parametrize("by_samples", [False, True])
def test_validation_takes_classes_or_rows(tmp_path, rows, by_samples):
    classes = [f"c{i % 8}" for i in range(64)]
    path = write(tmp_path, np.arange(64.)[:, None], {"label": classes})
    train, val = split_validation(embeddings(path).train, 0.5, by_samples)
    found = [read(images) for images in (train, val)]
    shared = set(found[0][1]) & set(found[1][1])
    assert len(shared) == (4 if by_samples else 0)
    for values, names in found:
        assert names == [classes[int(i)] for i in values[:, 0]]
    values = torch.cat([values for values, _ in found])[:, 0]
    assert sorted(values.tolist()) == [i for i in range(64) if i % 8 < 4]


def test_all_classes_train_and_a_share_is_held(tmp_path, rows):
    path = write(tmp_path, rows, {"label": CLASSES})
    whole = select("embeddings", path, train_on_all=True)
    assert whole.test is None
    order = sorted(range(12), key=lambda i: (CLASSES[i], i))
    assert read(whole.train)[0].tolist() == rows[order].tolist()
    held = select("embeddings", path, train_on_all=True, test_by_images=.3)
    values, names = read(held.test)
    assert names == ["a", "b", "c", "d"]
    both = torch.cat([values, read(held.train)[0]])[:, 0]
    assert sorted(both.tolist()) == list(range(12))


def test_the_record_changes_with_rows_labels_and_type(tmp_path, rows):
    def record(values, classes):
        return image_record(embeddings(write(tmp_path, values, {"label": classes})))["train"]

    first = record(rows, CLASSES)
    assert first == record(rows, CLASSES)
    assert first["counts"] == [3, 3]
    changed = rows.copy()
    changed[4, 1] += 1
    others = [record(changed, CLASSES), record(rows.astype(np.float32), CLASSES),
              record(rows, ["a", *CLASSES[1:]]), record(rows, [CLASSES[1], CLASSES[0], *CLASSES[2:]])]
    assert len({first["digest"], *(other["digest"] for other in others)}) == 5


def test_only_the_rows_of_a_batch_are_read(tmp_path, rows):
    images = embeddings(write(tmp_path, rows, {"label": CLASSES})).train
    dataset = file_loader(images).dataset
    assert isinstance(dataset.views, np.memmap)
    found = dataset.__getitems__([Draw(5, 0, 0), Draw(0, 0, 1)])
    assert found.image.tolist() == rows[[9, 1]].tolist()


def nan_in(rows, row):
    """A copy with a NaN."""
    changed = rows.copy()
    changed[row, 1] = np.nan
    return changed


@pytest.mark.parametrize("values, words", [
    (lambda rows: rows[:, 0], "holds float64 (12,); expected float16, float32 or float64"),
    (lambda rows: rows[:, :0], "holds float64 (12, 0)"),
    (lambda rows: rows[None], "holds float64 (1, 12, 3)"),
    (lambda rows: rows.astype(int), "holds int64 (12, 3)"),
    (lambda rows: rows.astype(object), "is not a readable .npy file"),
    (lambda rows: rows[:11], "12 lines for 11 rows"),
    (lambda rows: rows[:0], "12 lines for 0 rows"),
    (lambda rows: np.asfortranarray(rows), "column by column"),
    (lambda rows: nan_in(rows, 7), "row 7 (counted from 0) holds NaN, inf"),
    (lambda rows: rows + np.where(rows == 9, np.inf, 0), "row 3 (counted from 0)"),
    (lambda rows: rows + np.where(rows == 121, 1e39, 0), "row 11 (counted from 0)"),
])
def test_other_arrays_are_refused(tmp_path, rows, values, words):
    path = write(tmp_path, values(rows), {"label": CLASSES})
    with pytest.raises(UsageError) as caught:
        embeddings(path)
    assert words in str(caught.value)


def test_a_row_that_is_not_finite_is_named_in_any_block(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("datasets.embeddings.BLOCK", 5 * 3 * 8)
    path = write(tmp_path, nan_in(rows, 10), {"label": CLASSES})
    with pytest.raises(UsageError, match="row 10 "):
        embeddings(path)
    whole = embeddings(write(tmp_path, rows, {"label": CLASSES})).train.paths.file.digest
    monkeypatch.setattr("datasets.embeddings.BLOCK", 1)
    assert embeddings(path).train.paths.file.digest == whole


@pytest.mark.parametrize("columns, words", [
    ({"name": CLASSES}, "there is no column label"),
    ({"label": range(12), "class": CLASSES}, "class 'a' has the label '4' here and '1' in line 3"),
    ({"label": CLASSES, "class": ["fox", *CLASSES[1:]]}, "label 'd' has the class 'd' here and 'fox' in line 2"),
    ({"label": CLASSES, "split": ["train"] * 11 + ["test"]}, "class 'd' has the split 'test' here"),
    ({"label": CLASSES, "split": ["other"] * 12}, "split 'other' is unknown"),
    ({"label": ["1", "01", *CLASSES[2:]]}, "one name in two spellings"),
    ({"label": ["", *CLASSES[1:]]}, "line 2: the label is empty"),
])
def test_other_tables_are_refused(tmp_path, rows, columns, words):
    path = write(tmp_path, rows, columns)
    with pytest.raises(UsageError) as caught:
        embeddings(path)
    assert words in str(caught.value)


def test_what_is_not_there_is_named(tmp_path, rows):
    path = write(tmp_path, rows, {"label": CLASSES})
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(UsageError, match="there is no labels.csv beside it"):
        embeddings(path)
    with pytest.raises(UsageError, match="there is no such file"):
        embeddings(tmp_path / "none.npy")
    np.save(tmp_path / "second.npy", rows)
    with pytest.raises(UsageError, match=r"holds 2 \.npy files"):
        embeddings(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(UsageError, match=r"not a readable \.npy file"):
        embeddings(path)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_are_a_list(texts):
    kept = Texts()
    for text in texts:
        kept.append(text)
    assert list(kept) == texts
