import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from datasets.base import ImageList
from evaluation.ranking import nearest
from evaluation.report import gallery
from evaluation.report.gallery import (
    CELL,
    EDGE,
    GAP,
    HEADING,
    HIT,
    MISS,
    TOP,
    choose_queries,
    draw_gallery,
    draw_run_gallery,
)
from tests.evaluation.sets import clusters, singletons

#               hit late          never              at once             first of two      all
NEAR = torch.tensor([[1, 4, 2], [0, 2, 4], [0, 1, 4], [4, 0, 1], [3, 0, 1], [0, 1, 2]])
LABEL = torch.tensor([0, 1, 0, 2, 2, 1])


def test_worst_queries_are_those_hit_last_and_least():
    # first hit (rank from 0; 3: none) of rows 0..5: 2, 3, 0, 0, 0, 1
    assert choose_queries(NEAR, LABEL, 3).worst.tolist() == [1, 0, 5]
    assert sorted(choose_queries(NEAR, LABEL, 99).worst.tolist()) == list(range(6))
    near, label = torch.tensor([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 0, 1]]), torch.tensor([0, 0, 0, 1])
    assert choose_queries(near, label, 1).worst.tolist() == [2]


def test_of_equally_late_hits_fewer_come_first():
    near = torch.tensor([[1, 2, 3], [0, 3, 4], [0, 1, 3], [4, 0, 1], [3, 0, 1]])
    assert choose_queries(near, torch.tensor([0, 0, 0, 1, 1]), 5).worst[:3].sort().values.tolist() == [1, 3, 4]


def test_random_queries_follow_the_seed_and_leave_out_singletons():
    rows, label = singletons()
    near = nearest(rows, rows, 5, exclude_self=True)[1]
    state = torch.get_rng_state()
    chosen = choose_queries(near, label, 8, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(chosen.random, choose_queries(near, label, 8, seed=1).random)
    assert not torch.equal(chosen.random, choose_queries(near, label, 8, seed=2).random)
    assert all(label[i] < 10 for i in [*chosen.random, *choose_queries(near, label, 99).worst])
    assert len(set(chosen.random.tolist())) == 8


@pytest.fixture
def texts(monkeypatch):
    found, write = [], Axes.text

    def remember(self, x, y, s, *args, **kwargs):
        found.append(s)
        return write(self, x, y, s, *args, **kwargs)
    monkeypatch.setattr(Axes, "text", remember)
    return found


def test_picture_holds_queries_hits_and_misses(tmp_path, texts):
    colours = [(0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (10, 10, 10), (128, 128, 128)]
    images = [Image.new("RGB", (32, 32), c) for c in colours]
    names = ["001.Black_footed_Albatross", "two", "a_class_whose_name_is_too_long_for_its_place"]
    score = torch.linspace(0.9, 0.1, 18).view(6, 3)
    draw_gallery(images, LABEL, names, NEAR, score, gallery.Queries(torch.tensor([0, 3]), torch.tensor([1])),
                 tmp_path / "g.png")
    page = np.asarray(Image.open(tmp_path / "g.png").convert("RGB"))
    y, x = TOP + HEADING, EDGE
    assert tuple(page[y + CELL // 2, x + CELL // 2]) == colours[0]                      # the query
    for place, j in enumerate(NEAR[0].tolist()):
        left = x + CELL + 2 * GAP + place * (CELL + GAP)
        assert tuple(page[y + CELL // 2, left + CELL // 2]) == colours[j]
        frame = np.array(to_rgb(HIT if LABEL[j] == LABEL[0] else MISS)) * 255
        edge = page[y + 10:y + CELL - 10, left - 2].astype(float)
        like = np.abs(edge - frame).max(1) < 40
        assert like.all() if LABEL[j] == LABEL[0] else 0.3 < like.mean() < 0.9           # solid, dashed
    assert "R@1 50.0 %   6 queries in 6 test images" in texts
    assert {"Random queries", "Worst queries: the first hit comes latest", "Black footed Alb…"} & set(texts)
    assert "0.90" in texts and all(len(s) <= 17 for s in texts if "class" in s and "too" in s)


def test_names_are_shortened():
    assert gallery.short_name("001.Black_footed_Albatross", 40) == "Black footed Albatross"
    assert gallery.short_name("Acura Integra Type R 2001") == "Acura In…e R 2001"
    assert gallery.short_name("42") == "42"


@pytest.mark.parametrize("size", [(8, 8), (32, 20), (500, 900)])
def test_images_keep_their_shape(size):
    picture = gallery._picture(lambda i: Image.new("L", size, 0), 0)
    dark = (picture < 100).all(2)
    assert picture.shape == (CELL, CELL, 3)
    assert dark.any(0).sum() / dark.any(1).sum() == pytest.approx(size[0] / size[1], rel=0.03)
    assert max(dark.any(0).sum(), dark.any(1).sum()) == CELL


def test_gallery_of_a_split(tmp_path, texts):
    rows, label = clusters(0, classes=3, per_class=3)
    paths = []
    for i in range(9):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (20, 30), (25 * i, 0, 0)).save(paths[-1])
    images = ImageList(paths, label.tolist(), ["a", "b", "$x_"])
    score, index = nearest(rows, rows, 8, exclude_self=True)
    draw_run_gallery(score, index, images, 16, tmp_path / "gallery.png", seed=3, number=2)
    with Image.open(tmp_path / "gallery.png") as image:
        assert image.size[0] == 2 * EDGE + 9 * (CELL + GAP) + GAP
    near = nearest(rows, rows, 1, exclude_self=True)[1][:, 0]
    share = (label[near] == label).double().mean().item()
    assert f"R@1 {100 * share:.1f} %   9 queries in 9 test images" in texts and texts.count("query") == 4


def test_gallery_without_queries_says_so(tmp_path, texts):
    images = [Image.new("RGB", (8, 8))] * 3
    near = torch.tensor([[1, 2], [0, 2], [0, 1]])
    draw_gallery(images, torch.arange(3), "abc", near, torch.zeros(3, 2), choose_queries(near, torch.arange(3), 2),
                 tmp_path / "g.png")
    assert "Nearest neighbours in 3 test images (no query has anything to find)" in texts


def test_queries_and_gallery_apart(tmp_path, texts):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    paths = []
    for i, colour in enumerate(colours):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (20, 20), colour).save(paths[-1])
    names = ["a", "b", "c"]
    queries, among = ImageList(paths[:2], [0, 2], names), ImageList(paths[2:], [1, 0, 0], names)
    near, score = torch.tensor([[1, 0, 2], [0, 1, 2]]), torch.tensor([[0.9, 0.5, 0.1]]).expand(2, 3)
    draw_run_gallery(score, near, queries, 20, tmp_path / "g.png", gallery=among)
    page = np.asarray(Image.open(tmp_path / "g.png").convert("RGB"))
    y, x = TOP + HEADING + CELL // 2, EDGE + CELL // 2
    shown = [tuple(page[y, x])] + [tuple(page[y, x + CELL + 2 * GAP + place * (CELL + GAP)]) for place in range(3)]
    assert shown == [colours[0], colours[3], colours[2], colours[4]]               # class c has nothing to find
    assert "R@1 100.0 %   1 queries in 3 gallery images" in texts and texts.count("query") == 2
