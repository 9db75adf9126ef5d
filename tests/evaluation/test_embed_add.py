"""evaluation.embed --add: new images alone are embedded, and a kill at any moment loses nothing."""
import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from evaluation.embed import command
from evaluation.embed.unfinished import is_begun
from evaluation.search import Searcher
from tests.evaluation.test_search import save_network
from utilities.labels import read_lines

FILES = ("embeddings.npy", "labels.csv", "embeddings.json")


def save_images(folder, name, numbers):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for i in numbers:
        pixels = np.random.default_rng(i).integers(256, size=(16, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.fixture
def place(tmp_path):
    """Embeddings in `e` of the first images of two classes, and more images that came later."""
    save_network(tmp_path / "last.pt")
    images = tmp_path / "images"
    save_images(images, "bee", range(5))
    save_images(images, "cat", range(5, 9))
    assert embed(tmp_path) == 0
    save_images(images, "ant", range(20, 23))
    save_images(images, "bee", range(30, 32))
    (images / "cat" / "cut.png").write_bytes(b"no image")
    return tmp_path


def embed(place, *more, out="e", network="last.pt"):
    argv = [place / network, place / "images", "--out", place / out, "--device", "cpu", *more]
    return command.main([*map(str, argv), "--metrics"])


def embedded_paths(monkeypatch):
    """The images that calls to come embed."""
    seen = []
    original = command.embed_images

    def noted(embedder, images, *arguments, **keywords):
        seen.extend(path.name for path in images.paths)
        return original(embedder, images, *arguments, **keywords)
    monkeypatch.setattr(command, "embed_images", noted)
    return seen


def read(folder):
    with open(folder / "labels.csv", newline="") as file:
        return np.load(folder / "embeddings.npy"), list(csv.DictReader(file))


def check(place):
    """The set in `e` is that of all images, its old rows first, in the bits that they had."""
    rows, lines = read(place / "e")
    assert embed(place, out="all") == 0
    all_rows, all_lines = read(place / "all")
    expected = {line["path"]: row for line, row in zip(all_lines, all_rows)}
    assert {line["path"] for line in lines} == set(expected)
    assert len(lines) == len(rows) == 14
    for line, row in zip(lines, rows):
        np.testing.assert_allclose(row, expected[line["path"]], atol=1e-6)
        assert line["class"] == line["path"].split("/")[0]
    # classes keep their labels
    assert {(line["class"], line["label"]) for line in lines} == {
        ("bee", "0"), ("cat", "1"), ("ant", "2")}
    assert json.loads((place / "e" / "embeddings.json").read_text())["skipped"] == ["cat/cut.png"]
    assert {path.name for path in (place / "e").iterdir()} == set(FILES)
    assert len(Searcher(place / "e")) == 14


def test_only_new_images_are_embedded(place, monkeypatch, capsys):
    before, lines_before = read(place / "e")
    seen = embedded_paths(monkeypatch)
    assert embed(place, "--add") == 0
    said = capsys.readouterr()
    assert sorted(seen) == ["20.png", "21.png", "22.png", "30.png", "31.png", "cut.png"]
    assert "5 images added to 9, 1 skipped" in said.out
    rows, lines = read(place / "e")
    assert (rows[:9] == before).all() and lines[:9] == lines_before
    check(place)
    (place / "images" / "cat" / "cut.png").unlink()
    assert embed(place, "--add") == 0
    assert "there is nothing to add" in capsys.readouterr().out


def test_a_call_of_damaged_images_alone_adds_none(place):
    assert embed(place, "--add") == 0
    rows, _ = read(place / "e")
    assert embed(place, "--add") == 0
    assert (read(place / "e")[0] == rows).all()


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("last", ["nothing", *FILES])
def test_a_call_killed_after_any_file_is_continued(place, monkeypatch, last):
    """As if the process had ended when it had replaced this file, in the order of writing."""
    before = {name: (place / "e" / name).read_bytes() for name in FILES}
    removed = command.remove_unfinished

    def killed(*_):
        raise Killed
    monkeypatch.setattr(command, "remove_unfinished", killed)
    with pytest.raises(Killed):
        embed(place, "--add")
    monkeypatch.setattr(command, "remove_unfinished", removed)
    order = ["labels.csv", "embeddings.npy", "embeddings.json"]
    kept = order[:order.index(last) + 1] if last in order else []
    for name in set(FILES) - set(kept):
        (place / "e" / name).write_bytes(before[name])
    assert is_begun(place / "e")
    assert embed(place, "--add") == 0
    check(place)


@pytest.mark.parametrize("more, code, words", [
    (["--add", "--image_size", "8"], 2, "--image_size: --add embeds"),
    (["--add", "--amp", "bf16"], 2, "--amp: --add embeds"),
    (["--add", "--eval_context", "2"], 2, "--eval_context: --add embeds"),
    ([], 2, "or pass --add"),
])
def test_what_does_not_fit_is_refused(place, capsys, more, code, words):
    assert embed(place, *more) == code
    assert words in capsys.readouterr().err


def test_other_networks_folders_and_files_are_refused(place, capsys):
    before = {name: (place / "e" / name).read_bytes() for name in FILES}
    save_network(place / "other.pt", seed=1)
    assert embed(place, "--add", network="other.pt") == 2
    assert "is not the network that made" in capsys.readouterr().err
    assert embed(place, "--add", out="none") == 2
    assert "holds no embeddings to add to" in capsys.readouterr().err
    images = place / "images"
    images.rename(place / "moved")
    save_images(images, "dog", range(3))
    assert embed(place, "--add") == 2
    assert "which is embedded" in capsys.readouterr().err
    shutil.rmtree(images)
    (place / "moved").rename(images)
    assert {name: (place / "e" / name).read_bytes() for name in FILES} == before
    for name, text in {"labels.csv": "path\n", "embeddings.npy": "x"}.items():
        (place / "e" / name).write_text(text)
        assert embed(place, "--add") == 1
        assert "are not those that embeddings.json describes" in capsys.readouterr().err
        (place / "e" / name).write_bytes(before[name])
    np.save(place / "e" / "embeddings.npy", read(place / "e")[0][::-1])
    assert embed(place, "--add") == 1


def test_a_folder_that_has_moved_can_be_added_to(place):
    (place / "images").rename(place / "moved")
    argv = [place / "last.pt", place / "moved", "--out", place / "e", "--add", "--device", "cpu"]
    assert command.main([*map(str, argv), "--metrics"]) == 0
    searcher = Searcher(place / "e")
    assert searcher.gallery.image_of(13).is_relative_to(place / "moved")
    assert searcher.gallery.image_of(13).exists()


def test_classes_that_are_equal_as_numbers_stay_apart(tmp_path):
    save_network(tmp_path / "last.pt")
    for i, name in enumerate(["0", "1"]):
        save_images(tmp_path / "images", name, range(2 * i, 2 * i + 2))
    assert embed(tmp_path) == 0
    save_images(tmp_path / "images", "01", range(10, 12))
    # the first image that was embedded may be gone
    (tmp_path / "images" / "0" / "0.png").unlink()
    assert embed(tmp_path, "--add") == 0
    lines = read(tmp_path / "e")[1]
    assert [(line["class"], line["label"]) for line in lines] == [
        ("0", "0"), ("0", "0"), ("1", "1"), ("1", "1"), ("01", "2"), ("01", "2")]


def test_a_table_that_spells_a_class_anew_is_refused(tmp_path, capsys):
    save_network(tmp_path / "last.pt")
    save_images(tmp_path / "images", "x", range(4))
    table = tmp_path / "images" / "labels.csv"
    table.write_text("path,label\nx/0.png,03\nx/1.png,03\n")
    assert embed(tmp_path) == 0
    table.write_text("path,label\nx/0.png,3\nx/1.png,3\nx/2.png,3\n")
    assert embed(tmp_path, "--add") == 2
    assert "'3' and '03'" in capsys.readouterr().err


def test_a_name_that_begins_with_a_space_is_kept(tmp_path):
    save_network(tmp_path / "last.pt")
    save_images(tmp_path / "images", " a", range(2))
    assert embed(tmp_path) == 0
    save_images(tmp_path / "images", " a", range(3))
    assert embed(tmp_path, "--add") == 0
    searcher = Searcher(tmp_path / "e")
    assert len(searcher) == 3
    for i in range(3):
        path = tmp_path / "images" / " a" / f"{i}.png"
        assert searcher.gallery.image_of(i).exists()
        assert searcher.gallery.row_of(path) == i


@pytest.mark.parametrize("name", ["=1+1", "-a", "'-a", "@b"])
def test_a_name_that_spreadsheets_would_compute_is_kept(tmp_path, name):
    save_network(tmp_path / "last.pt")
    save_images(tmp_path / "images", name, range(2))
    save_images(tmp_path / "images", "z", range(4, 6))
    assert embed(tmp_path) == 0
    save_images(tmp_path / "images", name, range(3))
    assert embed(tmp_path, "--add") == 0
    lines = read(tmp_path / "e")[1]
    assert [line["label"] for line in lines] == ["0", "0", "1", "1", "0"]
    assert all(not cell.startswith(("=", "-", "@")) for line in lines for cell in line.values())
    searcher = Searcher(tmp_path / "e")
    assert searcher.gallery.image_of(4).samefile(tmp_path / "images" / name / "2.png")
    assert {line["class"] for line in read_lines(tmp_path / "e" / "labels.csv", ["class"])} == {name, "z"}


def test_classes_that_the_table_would_merge_are_refused(tmp_path, capsys):
    save_network(tmp_path / "last.pt")
    save_images(tmp_path / "images", "x", range(2))
    save_images(tmp_path / "images", "x ", range(2))
    assert embed(tmp_path) == 2
    assert "'x' and 'x ' would be one in labels.csv" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_metrics_of_added_images_are_refused(place, capsys):
    argv = [place / "last.pt", place / "images", "--out", place / "e", "--add", "--metrics", "nmi"]
    assert command.main(list(map(str, argv))) == 2
    assert "--metrics: --add" in capsys.readouterr().err
