"""explorer.html without a browser: what it knows, how it holds it, and the command that makes it."""
import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.base import ImageList
from evaluation import evaluate, explorer, query_values
from evaluation.explorer.atlas import COLUMNS, PIXELS, SIDES, draw_atlas
from evaluation.explorer.data import class_lines, explore
from evaluation.explorer.page import LONGEST
from evaluation.metrics.confusions import confusions
from evaluation.metrics.per_class import class_table
from evaluation.ranking import nearest
from evaluation.report.map import place_images
from tests.evaluation.pages import EVIL, HEADING, Reader, known, pictures, shade, write
from tests.evaluation.sets import clusters, one_class, singletons


def names(count):
    return [f"class {i}" for i in range(count)]


def files(data, row):
    return [data["files"][picture] for picture in data["neighbour"][row]]


def cell(path, picture, data):
    """The thumbnail of a picture, cut from the sheets of the page."""
    sheets = re.findall(r"\.a\d+ \{ background-image: url\(\"data:image/jpeg;base64,(.*?)\"", path.read_text())
    sheet = Image.open(io.BytesIO(base64.b64decode(sheets[picture // (COLUMNS * data["rows"])])))
    y, x = divmod(picture % (COLUMNS * data["rows"]), COLUMNS)
    return np.asarray(sheet.crop([part * data["side"] for part in (x, y, x + 1, y + 1)])).astype(int)


# ----------------------------------------------------------------------------------------------------------- its data


@pytest.mark.parametrize("limit", [5000, 11])
def test_neighbours_are_those_of_the_evaluation_whether_sampled_or_not(tmp_path, limit):
    rows, label = clusters(0, noise=2.0)
    images = pictures(tmp_path / "i", label, names(6))
    near, words = write(tmp_path / "e.html", rows, images, limit=limit)
    data, number = known(tmp_path / "e.html"), min(limit, 42)
    assert data["opened"] == number and data["depth"] == 12 and f"{number} of 42 images can be opened" in words
    for picture in range(number):
        row = int(data["files"][picture][:3])
        assert files(data, picture) == [images.paths[j].name for j in near[row].tolist()]
        assert data["label"][picture] == label[row]
    assert len(set(data["files"])) == len(data["files"])                           # none is shown twice
    page = " ".join(Reader((tmp_path / "e.html").read_text()).text)
    assert "All 42 test images can" in page if limit > 42 else "A sample of 11 of 42 test images" in page


def test_every_picture_is_its_image(tmp_path):
    rows, label = clusters(0, classes=30, per_class=5)                             # more than one sheet
    images = pictures(tmp_path / "i", label, names(30))
    write(tmp_path / "e.html", rows, images, limit=40)
    data = known(tmp_path / "e.html")
    assert len(data["files"]) > 100
    for picture, file in enumerate(data["files"]):
        assert np.abs(cell(tmp_path / "e.html", picture, data) - shade(int(file[:3]))).max() < 6


@pytest.mark.parametrize("rows,label", [clusters(0, noise=2.0), singletons(), one_class()])
def test_class_numbers_are_those_of_per_class_and_confusions(rows, label):
    _, label = label.unique(return_inverse=True)
    images = pictures_of(label)
    near = nearest(rows, rows, 1, exclude_self=True)[1]
    lines = class_lines(near[:, 0], images, None)
    values, query = query_values(rows, label, ["e_recall@1"])
    table = {row["class"]: row for row in class_table(values, query, label, images.class_names)}
    for line in lines:
        assert line.images == table[line.name]["images"]
        assert line.hits / line.queries == table[line.name]["e_recall@1"] if line.queries else line.images == 1
        assert line.hits + sum(count for _, count in line.taken_for) == line.queries
    found = {(line.name, lines[other].name): count for line in lines for other, count in line.taken_for}
    assert found == {(pair.name, pair.taken_for): pair.count for pair in confusions(near[:, 0], label,
                                                                                   images.class_names)}
    total = evaluate(rows, label, ["e_recall@1"])["e_recall@1"]
    assert explore(rows[:, :1], near, images, limit=9).recall == pytest.approx(total, abs=1e-12)


def pictures_of(label):
    """An ImageList of files that nobody opens."""
    return ImageList([Path(f"{i}.png") for i in range(len(label))], label.tolist(), names(int(label.max()) + 1))


def test_in_a_gallery_apart_neighbours_come_from_it(tmp_path):
    rows, label = clusters(0, noise=2.0)
    query, there = torch.arange(24), torch.arange(24, 42)
    label[there] = label[there] % 5                                                # class 5 has nothing to find
    images = pictures(tmp_path / "q", label[query], names(6))
    gallery = pictures(tmp_path / "g", label[there], names(6), start=100)
    near, _ = write(tmp_path / "e.html", rows[query], images, among=rows[there], gallery=gallery, limit=9)
    data = known(tmp_path / "e.html")
    assert data["opened"] == 9 and data["gallery"] and data["neighbour"].min() == 9
    for picture in range(9):
        row = int(data["files"][picture][:3])
        assert files(data, picture) == [gallery.paths[j].name for j in near[row].tolist()]
    assert [line[2] for line in data["classes"]] == torch.bincount(label[query][label[query] < 5], minlength=6).tolist()
    assert "the 18 images of the gallery" in " ".join(Reader((tmp_path / "e.html").read_text()).text)


def test_the_map_has_the_points_of_the_picture_that_can_be_opened(tmp_path):
    rows, label = clusters(0)
    images = pictures(tmp_path / "i", label, names(6))
    write(tmp_path / "e.html", rows, images, mapped=30)
    data, places = known(tmp_path / "e.html"), place_images(rows, label, 30)
    assert [data["files"][picture] for picture in data["shown"]] == [f"{row:03d}.png" for row in places.row.tolist()]
    assert np.array_equal(data["point"].reshape(-1, 2), places.point.numpy()) and data["drawn"] == list(range(6))
    write(tmp_path / "e.html", rows, images, mapped=30, limit=10)
    few = known(tmp_path / "e.html")
    assert 0 < len(few["shown"]) <= 10 and few["shown"].max() < 10 and few["drawn"] == data["drawn"]
    write(tmp_path / "e.html", rows, images)
    assert len(known(tmp_path / "e.html")["shown"]) == 0


def test_an_unreadable_image_is_crossed_out_and_counted(tmp_path):
    rows, label = clusters(0)
    images = pictures(tmp_path / "i", label, names(6))
    images.paths[3].write_bytes(b"\x89PNG\r\n\x1a\n0000")
    images.paths[5].unlink()
    _, words = write(tmp_path / "e.html", rows, images)
    data = known(tmp_path / "e.html")
    assert data["unreadable"] == [3, 5] and "2 of them unreadable" in words
    assert "2 images could not be read" in " ".join(Reader((tmp_path / "e.html").read_text()).text)
    spread = [cell(tmp_path / "e.html", picture, data).std((0, 1)).max() for picture in (3, 4, 5)]
    assert spread[1] < 1 < 5 < min(spread[0], spread[2])


def test_more_images_are_smaller_ones(tmp_path, monkeypatch):
    Image.new("RGB", (300, 150), "red").save(tmp_path / "a.png")
    few = draw_atlas([tmp_path / "a.png"] * 3)
    assert few.side == SIDES[0] and len(few.sheets) == 1
    Image.new("RGB", (30, 60), "red").save(tmp_path / "small.png")                 # never much larger than they are
    assert draw_atlas([tmp_path / "small.png"] * 3).side == 64
    assert draw_atlas([tmp_path / "small.png", tmp_path / "a.png", tmp_path / "none.png"]).side == SIDES[0]
    monkeypatch.setattr("evaluation.explorer.atlas.PIXELS", 12 * SIDES[1]**2)
    many = draw_atlas([tmp_path / "a.png"] * 12)
    assert many.side == SIDES[1] and Image.open(io.BytesIO(many.sheets[0])).size == (COLUMNS * many.side, 2 * many.side)
    monkeypatch.setattr("evaluation.explorer.atlas.PIXELS", 1)
    assert draw_atlas([tmp_path / "a.png"] * 101).side == SIDES[-1] and PIXELS > 1
    pixels = np.asarray(Image.open(io.BytesIO(few.sheets[0])))
    assert pixels[48, 48].tolist()[0] > 240 and pixels[5, 48].min() > 230          # whole, in a light square


# ----------------------------------------------------------------------------------------------------------- its page


def test_names_of_unknown_origin_stay_text(tmp_path):
    rows, label = clusters(0)
    images = pictures(tmp_path / "i", label, [f"{EVIL}{c}" for c in range(5)] + ["x" * 10**5])
    images.paths[0] = images.paths[0].rename(tmp_path / "i" / "<b onclick=alert(2)>&\".png")
    heading = HEADING._replace(title=EVIL, facts=[EVIL], metrics={EVIL.replace("\x1b", ""): 0.5})
    write(tmp_path / "e.html", rows, images, heading=heading)
    text = (tmp_path / "e.html").read_text(encoding="utf-8")
    page = Reader(text)
    assert not page.named("img") and not page.named("b") and len(page.named("script")) == 2
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    data = known(tmp_path / "e.html")
    assert data["classes"][1][0] == f"{EVIL}1".replace("\x1b", "\ufffd") and len(data["classes"][5][0]) == LONGEST
    assert data["files"][0] == "<b onclick=alert(2)>&\".png" and "x" * (LONGEST + 1) not in text


def test_the_policy_allows_its_own_script_and_style_and_no_request(tmp_path):
    rows, label = clusters(0)
    write(tmp_path / "e.html", rows, pictures(tmp_path / "i", label, names(6)), mapped=30)
    text = (tmp_path / "e.html").read_text(encoding="utf-8")
    page = Reader(text)
    (policy,) = [a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:" and "unsafe" not in policy and "http" not in policy
    for kind, attributes, code in page.code:
        if attributes.get("id") != "data":
            mark = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
            assert rules[f"{kind}-src"] == f"'sha256-{mark}'"
    assert not re.search(r"https?://|//[a-z]+\.[a-z]+/|@import|innerHTML|eval\(", text)
    assert [a["href"] for a in page.named("a")] == ["report.html"]
    assert "50.0" in page.text and "1.250" in page.text and "a run" in page.text


def test_every_control_has_a_name(tmp_path):
    rows, label = clusters(0)
    write(tmp_path / "e.html", rows, pictures(tmp_path / "i", label, names(6)), mapped=30)
    page = Reader((tmp_path / "e.html").read_text(encoding="utf-8"))
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert all(a.get("aria-label") for a in [*page.named("canvas"), *page.named("select")])
    for _, attributes in page.tags:
        for reference in ("aria-controls", "aria-labelledby", "aria-describedby"):
            assert attributes.get(reference, "picked") in {*ids, "picked"}         # "picked" is made by the script


# -------------------------------------------------------------------------------------------------------- the command


def saved(folder, rows, label, images):
    """The files of evaluation.embed."""
    np.save(folder / "e.npy", rows.numpy())
    lines = [f"{path.name},{c},{images.class_names[c]}" for path, c in zip(images.paths, label.tolist())]
    (folder / "l.csv").write_text("\n".join(["path,label,class", *lines]) + "\n")
    return [str(folder / "e.npy"), str(folder / "l.csv"), str(images.paths[0].parent)]


def test_the_command_explores_saved_embeddings(tmp_path, capsys):
    rows, label = clusters(0, noise=2.0)
    images = pictures(tmp_path / "i", label, names(6))
    argv = [*saved(tmp_path, rows * 3, label, images), "--out", str(tmp_path / "e.html")]     # rows need no length one
    assert explorer.main([*argv, "--map_images", "30", "--explorer_images", "40"]) == 0
    assert "40 of 42 images can be opened, 42 are shown at 48 pixels;" in capsys.readouterr().out
    data = known(tmp_path / "e.html")
    near = nearest(rows, rows, 12, exclude_self=True)[1]
    for picture in range(40):
        row = int(data["files"][picture][:3])
        assert files(data, picture) == [images.paths[j].name for j in near[row].tolist()]
    assert [line[0] for line in data["classes"]] == names(6)
    page = Reader((tmp_path / "e.html").read_text(encoding="utf-8"))
    recall = evaluate(rows, label, ["c_recall@1"])["c_recall@1"]
    assert f"{100 * recall:.1f}" in page.text and tmp_path.name in page.text and not page.named("a")
    (tmp_path / "report.html").touch()
    assert explorer.main([*argv, "--title", "<mine>", "--metrics"]) == 0
    page = Reader((tmp_path / "e.html").read_text(encoding="utf-8"))
    assert page.named("a") == [{"href": "report.html"}] and "<mine>" in page.text


def test_the_command_matches_the_classes_of_a_gallery_by_name(tmp_path):
    rows, label = clusters(0)
    (tmp_path / "q").mkdir()
    images = pictures(tmp_path / "q" / "i", label, names(6))
    (tmp_path / "g").mkdir()
    gallery = pictures(tmp_path / "g" / "i", 5 - label, names(6)[::-1], start=100)
    argv = [*saved(tmp_path / "q", rows, label, images), "--gallery", *saved(tmp_path / "g", rows, 5 - label, gallery)]
    assert explorer.main([*argv, "--out", str(tmp_path / "e.html"), "--metrics", "c_recall@1"]) == 0
    data = known(tmp_path / "e.html")
    assert data["gallery"] and all(line[2] == line[3] == 7 for line in data["classes"])      # each finds itself
    assert [files(data, i)[0] for i in range(42)] == [path.name for path in gallery.paths]


@pytest.mark.parametrize("change,code,words", [
    (lambda folder: (folder / "l.csv").write_text("label\n" + "0\n" * 42), 2, "column path"),
    (lambda folder: (folder / "l.csv").write_text("path,label\n" + "../e.npy,0\n" * 42), 2, "inside of it"),
    (lambda folder: (folder / "l.csv").write_text("path,label\n" + "C:\\x.png,0\n" * 42), 2, "inside of it"),
    (lambda folder: (folder / "l.csv").write_text("path,label\n" + "a.png,0\n" * 3), 2, "3 lines for 42 rows"),
    (lambda folder: (folder / "e.npy").unlink(), 2, "no such file"),
    (lambda folder: (folder / "i").rename(folder / "moved"), 2, "no such folder"),
    (lambda folder: np.save(folder / "e.npy", np.full((42, 8), np.nan)), 1, "NaN"),
    (lambda folder: (folder / "e.html").mkdir(), 2, "name a file"),
])
def test_what_cannot_be_explored_is_one_sentence(tmp_path, capsys, change, code, words):
    rows, label = clusters(0)
    argv = saved(tmp_path, rows, label, pictures(tmp_path / "i", label, names(6)))
    change(tmp_path)
    assert explorer.main([*argv, "--out", str(tmp_path / "e.html"), "--map_images", "0"]) == code
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("evaluation.explorer: ")]
    assert len(said) == 1 and words in said[0]


def test_a_wrong_metric_is_refused_before_anything_is_read(capsys):
    assert explorer.main(["absent.npy", "absent.csv", "absent", "--out", "x", "--metrics", "recall@1"]) == 2
    assert "e_recall@" in capsys.readouterr().err
