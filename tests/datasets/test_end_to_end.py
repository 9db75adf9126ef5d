"""Whole runs on tiny trees of the real data sets, and colours that reach the network as they are
in the files.
"""
import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import main
from datasets import batches, select
from datasets.samplers import SAMPLERS
from parameters import get_options
from tests.datasets import trees
from training.building import build_loaders


def run(dataset, source, out, *more):
    """One epoch on a tree: result.json and the last row of metrics.csv."""
    argv = [
        "--dataset",
        dataset,
        "--source_path",
        str(source),
        "--save_path",
        str(out),
        "--savename",
        "run",
        "--device",
        "cpu",
        "--kernels",
        "0",
        "--arch",
        "resnet18_frozen_normalize",
        "--not_pretrained",
        "--image_size",
        "48",
        "--embed_dim",
        "32",
        "--bs",
        "16",
        "--samples_per_class",
        "4",
        "--n_epochs",
        "1",
        "--warmup_epochs",
        "0",
        "--no-figures",
        *more,
    ]
    assert main.main(argv) == 0
    made = Path(out) / dataset / "run"
    result = json.loads((made / "result.json").read_text())
    assert all(0 <= value <= 1 for value in result["final"].values())
    assert result["steps"] >= 1 and (made / "last.pt").is_file()
    with (made / "metrics.csv").open(newline="") as file:
        return result, list(csv.DictReader(file))[-1]


def birds_of_every_kind(root):
    """A tree with a grey, a CMYK and a turned image, a name with spaces and stray files."""
    return trees.cub_official(root, traps=("grey", "cmyk", "rotated", "spaces", "stray"))


@pytest.mark.parametrize("dataset, make", [
    ("cub200", birds_of_every_kind), ("cars196", trees.cars_official),
    pytest.param("cub200", trees.cub_base, marks=pytest.mark.slow),
    pytest.param("cars196", trees.cars_base, marks=pytest.mark.slow)])
def test_birds_and_cars_train(dataset, make, tmp_path, capsys):
    result, row = run(dataset, make(tmp_path), tmp_path / "out")
    assert np.isfinite(float(row["loss"])) and result["steps"] == 1
    assert (
        f"{dataset}: train 16 images of 4 classes, test 16 images of 4 classes"
        in capsys.readouterr().out
    )


def test_a_truncated_bird_stops_the_run_with_its_name(tmp_path, capsys):
    root = trees.cub_base(tmp_path, traps=["truncated"])
    argv = [
        "--dataset",
        "cub200",
        "--source_path",
        str(root),
        "--save_path",
        str(tmp_path),
        "--device",
        "cpu",
        "--kernels",
        "0",
        "--arch",
        "convnet_normalize",
        "--bs",
        "16",
        "--n_epochs",
        "1",
    ]
    assert main.main(argv) == 1
    said = capsys.readouterr().err
    assert (
        "Black_Footed_Albatross_0004_796103.jpg" in said.splitlines()[-1]
        and "Traceback" not in said
    )


@pytest.mark.parametrize(
    "sampler", [name for name in ("class_random", "hierarchical") if name in SAMPLERS]
)
def test_products_train(sampler, tmp_path):
    _, row = run(
        "sop",
        trees.sop_base(tmp_path),
        tmp_path / "out",
        "--data_sampler",
        sampler,
        "--use_tv_split",
        "--tv_split_by_samples",
        "--tv_split_perc",
        "0.5",
    )
    assert np.isfinite(float(row["loss"])) and 0 <= float(row["val_e_recall@1"]) <= 1


def test_clothes_are_searched_in_their_gallery(tmp_path, capsys):
    """One query an item, which has nothing to find among the queries and its own copy in the
    gallery.
    """
    root = trees.in_shop_official(tmp_path, trees.in_shop_rows(items=16, queries=1))
    _, _, queries, gallery = select("in_shop", root)
    for path, label in zip(queries.paths, queries.labels):
        path.write_bytes(gallery.paths[gallery.labels.index(label)].read_bytes())
    result, _ = run("in_shop", root, tmp_path / "out")
    assert result["final"]["e_recall@1"] == 1
    assert (
        "test 16 images of 16 classes, gallery 48 images of 16 classes" in capsys.readouterr().out
    )


PUBLISHED = ["--recipe", "paper", "--embed_dim", "64", "--bs", "180", "--samples_per_class", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("dataset, make, more", [
    ("cub200", lambda root: trees.cub_official(root, classes=92), []),
    ("cars196", lambda root: trees.cars_official(root, classes=92), []),
    ("sop", lambda root: trees.sop_official(root, classes=23), ["--data_sampler", "hierarchical"]),
    ("in_shop", lambda root: trees.in_shop_official(root, trees.in_shop_rows(items=46)), [])])
def test_the_published_recipe_trains_on_batches_of_its_composition(dataset, make, more, tmp_path):
    root = make(tmp_path)
    result, row = run(dataset, root, tmp_path / "out", *PUBLISHED, *more)
    assert np.isfinite(float(row["loss"])) and result["steps"] >= 1
    splits, opt = (
        select(dataset, root),
        get_options(
            [
                "--dataset",
                dataset,
                "--source_path",
                str(root),
                "--image_size",
                "48",
                "--kernels",
                "0",
                *PUBLISHED,
                *more,
            ]
        ),
    )
    sampler = build_loaders(opt, splits, Probe(), torch.device("cpu"))[
        "train"
    ].batch_sampler.sampler
    count = Counter(splits.train.labels[row] for row in next(iter(sampler)))
    assert len(count) == 45 and set(count.values()) == {4}
    if more:
        supers = Counter(splits.train.super_labels[label] for label in count)
        assert list(supers.values()) == [23, 22]


# ------------------------------------------------------------------------------------------ colours


class Probe(torch.nn.Module):
    """A network whose embedding of an image is the mean of each channel in its left and in its
    right half.
    """

    embed_dim = 6

    def __init__(self, channels="RGB"):
        super().__init__()
        self.preprocessing = {
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.25, 0.5),
            "channels": channels,
            "value_range": 1.0,
        }

    def embed(self, image, index=None):
        middle = image.shape[3] // 2
        # without the blur of the edge
        halves = [image[..., :middle - 2], image[..., middle + 2:]]
        return torch.cat([half.float().mean((2, 3)) for half in halves], dim=1)  # (B, 6)


RED = (230, 20, 10)
GREEN = (15, 200, 30)
GREY = (90, 90, 90)
KINDS = {
    "large.jpg": (320, 240),
    "fits.jpg": (56, 48),
    "small.png": (40, 30),
    "large.png": (200, 300),
}


@pytest.fixture
def colours(tmp_path):
    """Four classes of four images each, of many sizes and formats: two classes red on the left
    and green on the right, two grey, stored as such.
    """
    for label in range(4):
        for name, (width, height) in KINDS.items():
            pixels = np.full((height, width, 3), RED if label % 2 else GREY, np.uint8)
            pixels[:, width // 2:] = GREEN if label % 2 else GREY
            image = Image.fromarray(pixels) if label % 2 else Image.fromarray(pixels[:, :, 0])
            path = tmp_path / f"{label}" / name
            path.parent.mkdir(exist_ok=True)
            image.save(path, **({"quality": 95, "subsampling": 0} if name.endswith("jpg") else {}))
    return tmp_path


def loaders_of(folder, network, *more):
    """The loaders of a run on this folder, and its splits."""
    opt = get_options(
        [
            "--dataset",
            "image_folder",
            "--source_path",
            str(folder),
            "--bs",
            "4",
            "--samples_per_class",
            "2",
            "--kernels",
            "0",
            *more,
        ]
    )
    splits = select("image_folder", folder)
    return build_loaders(opt, splits, network, torch.device("cpu")), splits


def through_the_loader(folder, size, split, channels):
    """What Probe sees of the images of a split, the normalisation undone, as RGB to 255 by path,
    (2, 3) each.
    """
    network = Probe(channels)
    loaders, splits = loaders_of(
        folder, network, "--image_size", str(size), "--augmentation", "none"
    )
    rows = {row: seen for batch in batches(loaders[split])
            for row, seen in zip(batch.index.tolist(), network.embed(batch.image).view(-1, 2, 3))}
    mean, std = (torch.tensor(network.preprocessing[name]) for name in ("mean", "std"))
    seen = {row: 255 * (means * std + mean) for row, means in rows.items()}
    paths = getattr(splits, split).paths
    return {
        paths[row]: means if channels == "RGB" else means.flip(1) for row, means in seen.items()
    }


@pytest.mark.parametrize("size", [48, 112])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_red_green_and_grey_reach_the_network_in_their_channels(colours, size, split, channels):
    seen = through_the_loader(colours, size, split, channels)
    assert len(seen) == 8
    for path, (left, right) in seen.items():
        grey = int(path.parent.name) % 2 == 0
        expected = (GREY, GREY) if grey else (RED, GREEN)
        for half, colour in zip((left, right), expected):
            torch.testing.assert_close(
                half, torch.tensor(colour, dtype=torch.float32), rtol=0, atol=4
            )
        if grey:
            # three equal channels
            torch.testing.assert_close(left, left[:1].expand(3), rtol=0, atol=0.01)


@pytest.mark.parametrize("more, side", [(["--image_size", "56", "--crop_size", "40"], 40),
                                        (["--image_size", "112", "--augmentation", "big"], 128),
                                        (["--image_size", "48", "--augmentation", "red"], 48)])
def test_images_have_the_side_that_the_flags_ask_for(colours, more, side):
    loaders, _ = loaders_of(colours, Probe(), *more)
    assert {
        tuple(batch.image.shape[1:])
        for name in ("train", "test")
        for batch in batches(loaders[name])
    } == {(3, side, side)}
