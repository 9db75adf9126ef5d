"""The map: which images, where they lie, what is drawn; the same twice."""
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from datasets.base import ImageList
from evaluation.report import map as maps
from evaluation.report.map import (
    COLOURS,
    FEW,
    MARKERS,
    THUMBNAIL,
    choose_images,
    draw_map,
    draw_run_map,
    place_images,
    project,
)
from tests.evaluation.sets import clusters


def test_images_are_chosen_evenly_over_the_classes():
    label = torch.tensor([0] * 50 + [1] * 5 + [2] * 20)
    chosen = choose_images(label, 24)
    assert torch.bincount(label[chosen]).tolist() in ([10, 5, 9], [9, 5, 10])
    assert torch.equal(chosen, chosen.sort().values) and len(set(chosen.tolist())) == 24
    assert choose_images(label, 75).tolist() == choose_images(label, 999).tolist() == list(range(75))
    assert not torch.equal(chosen, choose_images(label, 24, seed=1)) and torch.equal(chosen, choose_images(label, 24))


def test_of_many_classes_some_are_shown_whole_enough_to_see():
    label = torch.arange(300).repeat_interleave(6)
    counts = torch.bincount(label[choose_images(label, 100)], minlength=300)
    assert counts.max() == FEW and (counts > 0).sum() == 25
    assert (counts[:150] > 0).any() and (counts[150:] > 0).any()


@pytest.mark.parametrize("n,width", [(1, 4), (2, 4), (3, 1), (4, 3), (5, 1), (6, 2), (40, 3), (40, 80)])
def test_any_number_of_rows_has_a_map(n, width):
    rows = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    points = project(rows)
    assert points.shape == (n, 2) and np.isfinite(points).all()
    same = project(np.ones((n, width), dtype=np.float32))
    assert same.shape == (n, 2) and np.isfinite(same).all()


def test_near_rows_are_near_in_the_map_and_the_same_twice():
    rows, label = clusters(0, classes=5, per_class=30, noise=0.5)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    points = project(rows.numpy())
    assert np.array_equal(state[0], np.random.get_state()[1]) and torch.equal(state[1], torch.get_rng_state())
    assert np.array_equal(points, project(rows.numpy()))
    distance = ((points[:, None] - points) ** 2).sum(2) + np.diag(np.full(len(points), np.inf))
    near = rows.double() @ rows.double().T
    near.fill_diagonal_(-torch.inf)
    same_class = (label[near.argmax(1)] == label).double().mean()
    assert (label.numpy()[distance.argmin(1)] == label.numpy()).mean() > same_class - 0.1


@pytest.fixture
def texts(monkeypatch):
    found, write = [], Axes.text

    def remember(self, x, y, s, *args, **kwargs):
        found.append(s)
        return write(self, x, y, s, *args, **kwargs)
    monkeypatch.setattr(Axes, "text", remember)
    return found


def page(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def shows(pixels, colour):
    return (np.abs(pixels - np.array(to_rgb(colour)) * 255).max(-1) < 40).any()


def test_few_groups_have_a_legend_and_colours_of_their_own(tmp_path, texts):
    points = np.random.default_rng(0).normal(size=(40, 2)) * 50
    group = np.arange(40) % 4
    names = ["ant", "bee", "cat", "$x_"]
    draw_map(points, group, names, group, names, tmp_path / "m.png", "note")
    assert [texts.count(name) for name in ("ant", "bee", "cat", "10", "note")] == [1, 1, 1, 4, 1]
    assert all(shows(page(tmp_path / "m.png"), colour) for colour in COLOURS[:4])
    assert page(tmp_path / "m.png").shape[1] == 2 * maps.EDGE + maps.SIDE + maps.RIGHT


def test_many_groups_have_no_legend_and_classes_are_named_where_they_fit(tmp_path, texts):
    classes = len(COLOURS) * len(MARKERS) + 1
    label = np.repeat(np.arange(classes), FEW)
    points = np.stack([label % 6, label // 6], 1) + np.random.default_rng(0).normal(size=(len(label), 2)) * 0.02
    names = [f"class {i}" for i in range(classes)]
    draw_map(points, label, names, label, names, tmp_path / "m.png")
    assert set(names) <= set(texts) and page(tmp_path / "m.png").shape[1] == 2 * maps.EDGE + maps.SIDE


def test_superclasses_colour_and_are_left_out_of_the_names(tmp_path, texts):
    rows, label = clusters(0, classes=6, per_class=5)
    images = ImageList([None] * 30, label.tolist(), [f"AB.c{i}" for i in range(3)] + [f"XY_d{i}" for i in range(3)],
                       [0, 0, 0, 1, 1, 1], ["AB", "XY"])
    draw_run_map(place_images(rows, label, 20), 8, images, tmp_path / "m.png")
    assert {"AB", "XY"} <= set(texts) and set(texts) & {"c0", "c1", "c2", "d0", "d1", "d2"}
    assert any(text.startswith("20 of 30 test images, 5 of 6 classes, by super-class") for text in texts)
    pixels = page(tmp_path / "m.png")
    assert shows(pixels, COLOURS[0]) and shows(pixels, COLOURS[1]) and not shows(pixels, COLOURS[2])


def test_thumbnails_stand_where_their_points_are_and_do_not_overlap(tmp_path):
    paths, shades = [], [(250, 0, 250), (0, 250, 0), (250, 250, 0)]
    for i, shade in enumerate(shades):
        Image.new("RGB", (20, 20), shade).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.99, 0.99]])
    label = np.array([0, 1, 1])
    draw_map(points, label, ["a", "b"], label, ["a", "b"], tmp_path / "m.png",
             picture=lambda i: Image.open(paths[i]))
    pixels = page(tmp_path / "m.png")
    shown = [(np.abs(pixels - shade).max(-1) < 3).sum() for shade in np.array(shades)]
    assert shown[0] == (THUMBNAIL - 4) ** 2 and sorted(shown[1:]) == [0, (THUMBNAIL - 4) ** 2]
    x, y = maps._in_pixels(points, maps.WIDE)[0].round().astype(int)
    assert tuple(pixels[y, x]) == shades[0] and shows(pixels[y, x - THUMBNAIL // 2:x], COLOURS[0])


def test_a_run_map_is_the_same_twice(tmp_path):
    rows, label = clusters(1, classes=4, per_class=6)
    paths = []
    for i in range(24):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (9, 12), (10 * i, 0, 99)).save(paths[-1])
    images = ImageList(paths, label.tolist(), list("abcd"))
    for name in ("one", "two"):
        draw_run_map(place_images(rows, label, 16), 8, images, tmp_path / f"{name}.png", thumbnails=True)
    assert np.array_equal(page(tmp_path / "one.png"), page(tmp_path / "two.png"))
    assert page(tmp_path / "one.png").shape[1] > maps.WIDE
