"""embedding.png: which images, where they lie, what is drawn; the same twice."""
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from datasets.base import ImageList
from evaluation.report.canvas import EDGE
from evaluation.report.embedding_map import (
    COLOURS,
    LEGEND,
    RIGHT,
    SIDE,
    THUMBNAIL,
    WIDE,
    _in_pixels,
    _own_name,
    draw_map,
)
from evaluation.report.places import FEW, Places, choose_images, place_images, project
from tests.evaluation.pages import write_images
from tests.evaluation.sets import clusters


def test_images_are_chosen_evenly_over_the_classes():
    label = torch.tensor([0] * 50 + [1] * 5 + [2] * 20)
    chosen = choose_images(label, 24)
    assert torch.bincount(label[chosen]).tolist() in ([10, 5, 9], [9, 5, 10])
    assert torch.equal(chosen, chosen.unique()) and len(chosen) == 24
    assert torch.equal(chosen, choose_images(label, 24))
    assert not torch.equal(chosen, choose_images(label, 24, seed=1))
    for limit in (75, 999):
        assert choose_images(label, limit).tolist() == list(range(75))


def test_of_many_classes_some_are_shown_whole_enough_to_see():
    label = torch.arange(300).repeat_interleave(6)
    counts = torch.bincount(label[choose_images(label, 100)], minlength=300)
    assert counts.max() == FEW and (counts > 0).sum() == 25
    assert (counts[:150] > 0).any() and (counts[150:] > 0).any()


SIZES = [(1, 4), (2, 4), (3, 1), (4, 3), (5, 1), (6, 2), (40, 3), (40, 80)]


@pytest.mark.parametrize("n,width", SIZES)
def test_any_number_of_rows_has_a_map(n, width):
    random = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    for rows in (random, np.ones_like(random)):
        points = project(rows)
        assert points.shape == (n, 2) and np.isfinite(points).all()


def test_near_rows_are_near_in_the_map():
    rows, label = clusters(0, classes=5, per_class=30, noise=0.5)
    points = project(rows.numpy())
    distance = np.square(points[:, None] - points).sum(2)
    np.fill_diagonal(distance, np.inf)
    similarity = rows.double() @ rows.double().T
    similarity.fill_diagonal_(-torch.inf)
    recall = (label[similarity.argmax(1)] == label).double().mean()
    assert (label[distance.argmin(1)] == label).double().mean() > recall - 0.1


def test_points_are_the_same_twice_and_leave_random_states_alone():
    rows = clusters(0)[0].numpy()
    numpy_state = np.random.get_state()[1].copy()
    torch_state = torch.get_rng_state()
    assert np.array_equal(project(rows), project(rows))
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert torch.equal(torch_state, torch.get_rng_state())


def draw(path, points, label, names, **more):
    """The map of all images of these labels at these points; returns its pixels."""
    places = Places(torch.arange(len(label)), torch.as_tensor(points))
    images = ImageList(more.pop("paths", [None] * len(label)), list(label), names)
    draw_map(places, 8, images, path, **more)
    return pixels_of(path)


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def shows(pixels, colour):
    return (np.abs(pixels - np.array(to_rgb(colour)) * 255).max(-1) < 40).any()


def test_few_groups_have_a_legend_and_colours_of_their_own(tmp_path, texts):
    points = np.random.default_rng(0).normal(size=(40, 2)) * 50
    label = np.arange(40) % 4
    pixels = draw(tmp_path / "m.png", points, label, ["ant", "bee", "cat", "$x_"])
    assert [texts.count(name) for name in ("ant", "bee", "cat", "10")] == [1, 1, 1, 4]
    assert "40 of 40 test images, 4 of 4 classes, by class; t-SNE of 8" in " ".join(texts)
    assert all(shows(pixels, colour) for colour in COLOURS[:4])
    assert pixels.shape[1] == 2 * EDGE + SIDE + RIGHT


def test_many_groups_have_no_legend_and_classes_are_named_where_they_fit(tmp_path, texts):
    names = [f"class {i}" for i in range(LEGEND + 1)]
    label = np.repeat(np.arange(len(names)), FEW)
    noise = np.random.default_rng(0).normal(size=(len(label), 2))
    points = np.stack([label % 6, label // 6], 1) + 0.02 * noise
    pixels = draw(tmp_path / "m.png", points, label, names)
    assert set(names) <= set(texts) and pixels.shape[1] == 2 * EDGE + SIDE


def test_superclasses_colour_and_are_left_out_of_the_names(tmp_path, texts):
    rows, label = clusters(0, classes=6, per_class=5)
    names = ["AB.c0", "AB.c1", "AB.c2", "XY_d0", "XY_d1", "XY_d2"]
    images = ImageList([None] * 30, label.tolist(), names, [0, 0, 0, 1, 1, 1], ["AB", "XY"])
    draw_map(place_images(rows, label, 20), 8, images, tmp_path / "m.png")
    assert {"AB", "XY"} <= set(texts) and {"c0", "c1", "c2", "d0", "d1", "d2"} & set(texts)
    assert "20 of 30 test images, 5 of 6 classes, by super-class" in " ".join(texts)
    pixels = pixels_of(tmp_path / "m.png")
    assert [shows(pixels, colour) for colour in COLOURS[:3]] == [True, True, False]


def test_thumbnails_stand_where_their_points_are_and_do_not_overlap(tmp_path):
    colours = [(250, 0, 250), (0, 250, 0), (250, 250, 0)]
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.99, 0.99]])
    paths = write_images(tmp_path, colours)
    pixels = draw(tmp_path / "m.png", points, [0, 1, 1], ["a", "b"], paths=paths, thumbnails=True)
    inside = (THUMBNAIL - 4) ** 2
    shown = [(np.abs(pixels - colour).max(-1) < 3).sum() for colour in np.array(colours)]
    assert shown[0] == inside and sorted(shown[1:]) == [0, inside]
    x, y = _in_pixels(points, WIDE)[0].round().astype(int)
    assert tuple(pixels[y, x]) == colours[0] and shows(pixels[y, x - THUMBNAIL // 2:x], COLOURS[0])


def test_one_image_has_a_map(tmp_path, texts):
    draw(tmp_path / "m.png", np.zeros((1, 2)), [1], ["ant", "bee"])
    assert "1 of 1 test images, 1 of 2 classes" in " ".join(texts)


def test_a_map_is_the_same_twice(tmp_path):
    rows, label = clusters(1, classes=4, per_class=6)
    paths = write_images(tmp_path, [(10 * i, 0, 99) for i in range(24)], size=(9, 12))
    images = ImageList(paths, label.tolist(), list("abcd"))
    for name in ("one.png", "two.png"):
        draw_map(place_images(rows, label, 16), 8, images, tmp_path / name, thumbnails=True)
    assert np.array_equal(pixels_of(tmp_path / "one.png"), pixels_of(tmp_path / "two.png"))
    assert pixels_of(tmp_path / "one.png").shape[1] > WIDE


@pytest.mark.parametrize(("name", "group", "shown"), [
    ("GREEK.alpha", "GREEK", "alpha"), ("cat_black", "cat", "black"), ("caterpillar", "cat", "caterpillar"),
    ("10", "1", "10"), ("1", "1", "1"), ("cat-", "cat", "cat-"), ("dog", "cat", "dog"),
])
def test_a_class_is_named_without_its_superclass_only_where_a_separator_follows(name, group, shown):
    assert _own_name(ImageList([], [], [name], [0], [group]), 0) == shown
