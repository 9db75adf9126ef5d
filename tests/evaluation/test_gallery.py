"""gallery.png: which queries it shows, and what is drawn of them."""
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from datasets.base import ImageList
from evaluation.ranking import nearest
from evaluation.report.canvas import CELL, EDGE, GAP, HEADING, HIT, MISS, TOP
from evaluation.report.gallery import NUMBER, Queries, choose_queries, draw_gallery
from evaluation.report.thumbnails import in_square, load_image, short_name
from tests.evaluation.pages import write_images
from tests.evaluation.sets import clusters, singletons

#                     hit late   never      at once    at once    at once    second
NEAR = torch.tensor([[1, 4, 2], [0, 2, 4], [0, 1, 4], [4, 0, 1], [3, 0, 1], [0, 1, 2]])
LABEL = torch.tensor([0, 1, 0, 2, 2, 1])
COLOURS = [(0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (10, 10, 10), (128, 128, 128)]


def test_worst_queries_are_those_hit_last_and_least():
    assert choose_queries(NEAR, LABEL, 3).worst.tolist() == [1, 0, 5]
    assert sorted(choose_queries(NEAR, LABEL, 99).worst.tolist()) == list(range(6))
    near = torch.tensor([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 0, 1]])
    assert choose_queries(near, torch.tensor([0, 0, 0, 1]), 1).worst.tolist() == [2]


def test_of_equally_late_hits_fewer_come_first():
    near = torch.tensor([[1, 2, 3], [0, 3, 4], [0, 1, 3], [4, 0, 1], [3, 0, 1]])
    worst = choose_queries(near, torch.tensor([0, 0, 0, 1, 1]), 5).worst
    assert sorted(worst[:3].tolist()) == [1, 3, 4]


def test_random_queries_follow_the_seed_and_leave_out_singletons():
    rows, label = singletons()
    near = nearest(rows, rows, 5, exclude_self=True)[1]
    state = torch.get_rng_state()
    chosen = choose_queries(near, label, 8, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(chosen.random, choose_queries(near, label, 8, seed=1).random)
    assert not torch.equal(chosen.random, choose_queries(near, label, 8, seed=2).random)
    worst = choose_queries(near, label, 99).worst
    assert (label[chosen.random] < 10).all() and (label[worst] < 10).all()
    assert len(set(chosen.random.tolist())) == 8


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


def left_edge(place):
    """Where the result at a place of a row begins."""
    return EDGE + CELL + 2 * GAP + place * (CELL + GAP)


def test_picture_shows_queries_hits_and_misses(tmp_path, texts):
    names = ["001.Black_footed_Albatross", "two", "a_class_whose_name_is_too_long_for_its_place"]
    images = ImageList(write_images(tmp_path, COLOURS, size=(32, 32)), LABEL.tolist(), names)
    score = torch.linspace(0.9, 0.1, 18).view(6, 3)
    queries = Queries(torch.tensor([0, 3]), torch.tensor([1]))
    draw_gallery(score, NEAR, images, tmp_path / "g.png", longest=32, queries=queries)
    pixels = pixels_of(tmp_path / "g.png")
    top = TOP + HEADING
    middle = CELL // 2
    assert tuple(pixels[top + middle, EDGE + middle]) == COLOURS[0]
    for place, j in enumerate(NEAR[0].tolist()):
        left = left_edge(place)
        assert tuple(pixels[top + middle, left + middle]) == COLOURS[j]
        is_hit = bool(LABEL[j] == LABEL[0])
        frame = np.array(to_rgb(HIT if is_hit else MISS)) * 255
        edge = pixels[top + 10:top + CELL - 10, left - 2].astype(float)
        share = (np.abs(edge - frame).max(1) < 40).mean()
        assert share == 1 if is_hit else 0.3 < share < 0.9  # solid, dashed
    assert "R@1 50.0 %   6 queries in 6 test images" in texts
    assert {"Random queries", "Worst queries: the first hit comes latest"} <= set(texts)
    assert "Black fo…lbatross" in texts
    assert "0.90" in texts and all(len(text) <= 17 for text in texts if "class" in text)


@pytest.mark.parametrize("name,length,short", [
    ("001.Black_footed_Albatross", 40, "Black footed Albatross"),
    ("Acura Integra Type R 2001", 17, "Acura In…e R 2001"),
    ("42", 17, "42"),
])
def test_names_are_shortened(name, length, short):
    assert short_name(name, length) == short


@pytest.mark.parametrize("size", [(8, 8), (32, 20), (500, 900)])
def test_images_keep_their_shape(size):
    square = in_square(Image.new("L", size, 0), CELL)
    dark = (square < 100).all(2)
    width = dark.any(0).sum()
    height = dark.any(1).sum()
    assert square.shape == (CELL, CELL, 3) and max(width, height) == CELL
    assert width / height == pytest.approx(size[0] / size[1], rel=0.03)


def test_images_are_reduced_to_what_the_network_sees(tmp_path):
    (path,) = write_images(tmp_path, ["red"], size=(60, 90))
    assert load_image(path, 30).size == (20, 30) and load_image(path, 100).size == (60, 90)


def test_gallery_of_a_split(tmp_path, texts):
    rows, label = clusters(0, classes=3, per_class=3)
    paths = write_images(tmp_path, [(25 * i, 0, 0) for i in range(9)], size=(20, 30))
    images = ImageList(paths, label.tolist(), ["a", "b", "$x_"])
    score, index = nearest(rows, rows, 8, exclude_self=True)
    draw_gallery(score, index, images, tmp_path / "gallery.png", longest=16, seed=3)
    assert pixels_of(tmp_path / "gallery.png").shape[1] == 2 * EDGE + 9 * (CELL + GAP) + GAP
    recall = (label[index[:, 0]] == label).double().mean().item()
    assert f"R@1 {100 * recall:.1f} %   9 queries in 9 test images" in texts
    assert texts.count("query") == 2 * NUMBER


def test_gallery_without_queries_says_so(tmp_path, texts):
    images = ImageList(write_images(tmp_path, COLOURS[:3]), [0, 1, 2], ["a", "b", "c"])
    near = torch.tensor([[1, 2], [0, 2], [0, 1]])
    draw_gallery(torch.zeros(3, 2), near, images, tmp_path / "g.png", longest=20)
    assert "Nearest neighbours in 3 test images (no query has anything to find)" in texts


def test_a_separate_gallery(tmp_path, texts):
    paths = write_images(tmp_path, COLOURS[:5])
    names = ["a", "b", "c"]
    queries = ImageList(paths[:2], [0, 2], names)
    gallery = ImageList(paths[2:], [1, 0, 0], names)
    near = torch.tensor([[1, 0, 2], [0, 1, 2]])
    score = torch.tensor([[0.9, 0.5, 0.1]]).expand(2, 3)
    draw_gallery(score, near, queries, tmp_path / "g.png", longest=20, gallery=gallery)
    row = pixels_of(tmp_path / "g.png")[TOP + HEADING + CELL // 2]
    shown = [tuple(row[left + CELL // 2]) for left in (EDGE, *map(left_edge, range(3)))]
    assert shown == [COLOURS[0], COLOURS[3], COLOURS[2], COLOURS[4]]
    # class c has nothing to find
    assert "R@1 100.0 %   1 query in 3 gallery images" in texts and texts.count("query") == 2
