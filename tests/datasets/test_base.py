"""Image lists, their checks, the validation split, and images of every kind."""
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.base import (
    Draw,
    ImageList,
    Splits,
    check,
    image_list,
    images_of_rows,
    split_in_halves,
    split_validation,
)
from datasets.decode import ImageError, decode
from datasets.image_folder import image_folder
from datasets.images import ImageDataset, collate
from utilities.errors import RunError, UsageError


def listed(counts: dict[str, int], supers=None):
    """An image list with that many images of each class."""
    names = [name for name, count in counts.items() for _ in range(count)]
    return image_list([(Path(f"{name}/{i}.png"), name) for i, name in enumerate(names)], supers)


def test_image_list_sorts_and_counts_from_zero():
    images = listed({"b": 2, "a": 1}, {"a": "y", "b": "x"})
    assert images.class_names == ["a", "b"] and images.labels == [0, 1, 1]
    assert images.super_names == ["x", "y"] and images.super_labels == [1, 0]
    assert [path.as_posix() for path in images.paths] == ["a/2.png", "b/0.png", "b/1.png"]


def test_image_list_does_not_depend_on_the_order_given():
    rows = [(Path("b/1"), "b"), (Path("a/1"), "a"), (Path("b/0"), "b"), (Path("a/0"), "a")]
    assert image_list(rows) == image_list(rows[::-1])


def test_subset_labels_anew():
    images = images_of_rows(
        listed({"a": 2, "b": 2, "c": 2}, {"a": "x", "b": "y", "c": "z"}), [4, 1, 5]
    )
    assert images.class_names == ["a", "c"] and images.labels == [0, 1, 1]
    assert images.super_names == ["x", "z"] and images.super_labels == [0, 1]


@pytest.mark.parametrize("train, val, test, said", [
    ({}, None, {"b": 2, "c": 2}, "train split has no images"),
    ({"a": 2, "c": 2}, None, {}, "test split has no images"),
    ({"a": 2, "c": 2}, {}, {"b": 2}, "val split has no images"),
    ({"a": 2}, None, {"b": 2}, "single class"),
    ({}, None, {"a": 3}, "All images are of one class, a;"),
    ({"a": 2, "c": 2}, None, {"b": 2, "a": 2}, "Class 'a' is in the train split and in the test "
                                               "split"),
    ({"a": 2, "c": 2}, {"b": 2}, {"b": 2}, "Class 'b' is in the val split and in the test split"),
    ({"a": 2, "c": 2}, None, {"b": 1, "d": 1}, "single image"),
])
def test_check_refuses(train, val, test, said):
    with pytest.raises(UsageError, match=said):
        check(Splits(listed(train), None if val is None else listed(val), listed(test)))


def queried(queries, gallery, classes="bd"):
    """Splits of two training classes, with queries and a gallery that number their classes
    alike.
    """
    test, found = (
        image_list([(Path(f"{kind}{i}"), name) for i, name in enumerate(names)], classes=classes)
        for kind, names in (("q", queries), ("g", gallery))
    )
    return Splits(listed({"a": 2, "c": 2}), None, test, found)


def test_check_takes_queries_with_a_gallery():
    # d has nothing to find
    splits = queried("bd", "bb")
    assert check(splits) == splits
    assert splits.test.labels == [0, 1] and splits.gallery.labels == [0, 0]
    assert str(splits) == ("train 4 images of 2 classes, test 2 images of 2 classes, gallery 2 "
                           "images of 1 class")


@pytest.mark.parametrize("splits, said", [
    (queried("bd", ""), "gallery split has no images"),
    (queried("bb", "dd"), "No class of the test split is in the gallery"),
    (queried("ab", "ab", "ab"), "Class 'a' is in the train split and in the test split"),
    (queried("bd", "bd")._replace(gallery=image_list([(Path("g"), "b")])), "number their classes "
                                                                           "differently"),
])
def test_check_refuses_a_gallery(splits, said):
    with pytest.raises(UsageError, match=said):
        check(splits)


def test_halves_go_by_the_order_given():
    names = ["b", "b", "a", "a", "d", "c", "e"]
    rows = [(Path(f"{i}.png"), name) for i, name in enumerate(names)]
    train, val, test, gallery = split_in_halves(
        Path("source"), rows, classes=["e", "d", "c", "b", "a"]
    )
    assert (train.class_names, test.class_names, val, gallery) == (
        ["d", "e"],
        ["a", "b", "c"],
        None,
        None,
    )
    assert train.paths == [Path("4.png"), Path("6.png")]
    assert split_in_halves(Path("source"), rows)[0].class_names == ["a", "b"]
    with pytest.raises(UsageError, match="source: 2 of 7 classes have no images, the first is f"):
        split_in_halves(Path("source"), rows, classes=["a", "b", "c", "d", "e", "f", "g"])


def test_validation_by_classes():
    train = listed({f"c{i}": 3 + i for i in range(10)}, {f"c{i}": f"s{i % 3}" for i in range(10)})
    kept, val = split_validation(train, fraction=0.7, seed=3)
    assert len(kept.class_names) == 7 and len(val.class_names) == 3
    assert sorted(kept.class_names + val.class_names) == train.class_names
    assert sorted(kept.paths + val.paths) == sorted(train.paths)
    for part in (kept, val):
        assert sorted(set(part.labels)) == list(range(len(part.class_names)))
        for path, label in zip(part.paths, part.labels):
            assert path.parent.name == part.class_names[label]
            assert part.super_names[part.super_labels[label]] == f"s{int(path.parent.name[1:]) % 3}"
    assert split_validation(train, fraction=0.7, seed=3) == (kept, val)
    assert split_validation(train, fraction=0.7, seed=4)[0] != kept


def test_validation_by_samples():
    train = listed({"a": 10, "b": 5, "c": 1})
    kept, val = split_validation(train, fraction=0.6, by_samples=True, seed=1)
    count = [
        [part.labels.count(label) for label in range(len(part.class_names))] for part in (kept, val)
    ]
    assert kept.class_names == ["a", "b", "c"] and count[0] == [6, 3, 1]
    assert val.class_names == ["a", "b"] and count[1] == [4, 2]
    assert sorted(kept.paths + val.paths) == sorted(train.paths)
    # drawn at random, not the first ones
    assert kept.paths[:6] != train.paths[:6]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1, 0.01, 0.99])
def test_validation_that_leaves_nothing(fraction):
    with pytest.raises(UsageError, match="--tv_split_perc"):
        split_validation(listed({"a": 2, "b": 2, "c": 2}), fraction=fraction)
    with pytest.raises(UsageError, match="no training images"):
        split_validation(ImageList([], [], []), by_samples=fraction > 0)


def rgb(path):
    """The decoded image with its channels last."""
    image = decode(path)
    assert image.dtype == torch.uint8 and image.shape[0] == 3
    return image.permute(1, 2, 0).numpy()


PIXELS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def test_plain_images(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "rgb.png")
    assert (rgb(tmp_path / "rgb.png") == PIXELS).all()
    Image.fromarray(PIXELS[:, :, 0]).save(tmp_path / "grey.png")
    assert (rgb(tmp_path / "grey.png") == PIXELS[:, :, :1]).all()
    Image.fromarray(PIXELS).quantize(64).save(tmp_path / "palette.png")
    assert (rgb(tmp_path / "palette.png") == PIXELS).all()
    Image.fromarray(PIXELS[:, :, 0] > 127).save(tmp_path / "bits.png")
    assert (rgb(tmp_path / "bits.png") == 255 * (PIXELS[:, :, :1] > 127)).all()


def test_cmyk(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    red = rgb(tmp_path / "cmyk.jpg")[0, 0].astype(int)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_a_transparent_grey_of_16_bits_lies_on_white(tmp_path):
    grey = np.array([[1000, 40000], [65535, 1000]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png", transparency=1000)
    assert rgb(tmp_path / "grey.png")[..., 0].tolist() == [[255, round(40000 / 257)], [255, 255]]


def test_transparency_lies_on_white(tmp_path):
    alpha = np.full((7, 5, 1), 255, np.uint8)
    alpha[0] = 0
    Image.fromarray(np.concatenate([PIXELS, alpha], 2), "RGBA").save(tmp_path / "rgba.png")
    image = rgb(tmp_path / "rgba.png")
    assert (image[0] == 255).all() and (image[1:] == PIXELS[1:]).all()
    palette = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(7, 5), "L").convert("P")
    palette.save(tmp_path / "palette.png", transparency=3)
    image = rgb(tmp_path / "palette.png")
    assert (image[0, 3] == 255).all() and (image[0, 2] == 2).all()


def test_sixteen_bits_use_the_full_range(tmp_path):
    wide = np.array([[0, 257, 200 * 257, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide).save(tmp_path / "wide.tif")
    for name in ("wide.png", "wide.tif"):
        assert rgb(tmp_path / name)[0].tolist() == [[v] * 3 for v in (0, 1, 200, 255)]
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "float.tif")
    assert rgb(tmp_path / "float.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    "orientation, upright",
    [
        (1, lambda x: x),
        (3, lambda x: x[::-1, ::-1]),
        (6, lambda x: np.rot90(x, -1)),
        (2, lambda x: x[:, ::-1]),
    ],
)
def test_exif_orientation(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    assert (rgb(tmp_path / "turned.png") == upright(PIXELS)).all()


def test_damaged_exif_is_no_damaged_image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "odd.png", exif=b"Exif\x00\x00nonsense")
    assert (rgb(tmp_path / "odd.png") == PIXELS).all()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "gone"])
def test_corrupt_image_is_named(tmp_path, damage):
    path = tmp_path / "bad.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        path
    )
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "text": b"no image", "cut": path.read_bytes()[:4000]}[damage]
        )
    with pytest.raises(RunError) as caught:
        decode(path)
    assert (
        str(path) in str(caught.value)
        and "run again" in str(caught.value)
        and "\n" not in str(caught.value)
    )


def test_image_error_finds_its_sentence_in_a_traceback():
    try:
        raise ImageError("a.png: broken; replace it.")
    except ImageError:
        text = (
            "Caught ImageError in DataLoader worker process 0.\nOriginal " + traceback.format_exc()
        )
    assert str(ImageError(text)) == "a.png: broken; replace it."


def test_dataset_gives_image_label_and_row(tree):
    images = image_folder(tree).train
    dataset = ImageDataset(images, transform=lambda image: image.float())
    image, label, row = dataset[5]
    assert len(dataset) == 12 and (label, row) == (1, 5)
    assert (image == decode(images.paths[5])).all()
    batch = collate([dataset[3], dataset[7]])
    assert batch.image.shape == (2, 3, 24, 24)
    assert batch.label.tolist() == [0, 1] and batch.index.tolist() == [3, 7]
    assert batch.label.dtype == batch.index.dtype == torch.int64


def test_draw_decides_the_random_choices_and_leaves_the_global_stream(tree):
    dataset = ImageDataset(image_folder(tree).train, transform=lambda image: torch.rand(1), seed=5)
    state = torch.get_rng_state()
    draws = [Draw(0, 0, 0), Draw(1, 0, 0), Draw(0, 1, 0), Draw(0, 0, 1)]
    values = [dataset[draw][0].item() for draw in draws]
    assert len(set(values)) == 4
    torch.rand(3)
    assert [dataset[draw][0].item() for draw in reversed(draws)] == values[::-1]
    torch.set_rng_state(state)
    dataset[draws[0]]
    assert torch.equal(torch.get_rng_state(), state)
    other = ImageDataset(dataset.images, transform=dataset.transform, seed=6)
    assert other[draws[0]][0].item() != values[0]
