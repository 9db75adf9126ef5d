"""Small image trees for the tests of the data sets."""
import csv

import numpy as np
import pytest
from PIL import Image


def save_image(path, seed=0, size=(24, 24)):
    """A random RGB picture of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_tree(root, classes=6, images=4, backwards=False):
    """<root>/class_<c>/<i>.png, made in either order."""
    where = [(c, i) for c in range(classes) for i in range(images)]
    for c, i in reversed(where) if backwards else where:
        save_image(root / f"class_{c}" / f"{i}.png", seed=100 * c + i)
    return root


def save_table(root, rows, columns=("path", "label"), name="labels.csv"):
    """A labels.csv of these rows."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return root


@pytest.fixture
def tree(tmp_path):
    return save_tree(tmp_path / "tree")
