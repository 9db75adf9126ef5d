"""explorer.html without a browser: its data, its page, and the command that makes it."""
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
from evaluation import evaluate, query_values
from evaluation.explorer.atlas import COLUMNS, SIDES, draw_atlas
from evaluation.explorer.command import main
from evaluation.explorer.data import ClassLine, Explorer, class_lines
from evaluation.explorer.marking import marking
from evaluation.metrics.confusions import confusions
from evaluation.metrics.per_class import class_table
from evaluation.pages import LONGEST
from evaluation.ranking import nearest
from evaluation.report import place_images
from tests.evaluation.pages import EVIL, HEADING, known, pictures, read, shade, write
from tests.evaluation.sets import clusters, one_class, singletons


def names(count):
    return [f"class {i}" for i in range(count)]


@pytest.fixture
def page(tmp_path):
    """The file to write."""
    return tmp_path / "e.html"


@pytest.fixture
def six(tmp_path):
    """Six classes of seven images each, hard to tell apart: rows, labels, images."""
    rows, label = clusters(0, noise=2.0)
    return rows, label, pictures(tmp_path / "i", label, names(6))


def check_neighbours(data, near, paths, *, label=None):
    """Every image that can be opened has the neighbours `near` (N, k) of its row, in `paths`."""
    assert data["opened"]
    for picture in range(data["opened"]):
        row = int(data["files"][picture][:3])
        files = [data["files"][other] for other in data["neighbour"][picture]]
        assert files == [paths[j].name for j in near[row].tolist()]
        assert label is None or data["label"][picture] == label[row]


def cells(page, data):
    """The thumbnails of all pictures, (side, side, 3) each, cut from the sheets of the page."""
    pattern = r"\.a\d+ \{ background-image: url\(\"data:image/jpeg;base64,(.*?)\""
    texts = re.findall(pattern, page.read_text())
    sheets = [Image.open(io.BytesIO(base64.b64decode(text))) for text in texts]
    side = data["side"]
    for picture in range(len(data["files"])):
        number, cell = divmod(picture, COLUMNS * data["rows"])
        y, x = divmod(cell, COLUMNS)
        box = (x * side, y * side, (x + 1) * side, (y + 1) * side)
        yield np.asarray(sheets[number].crop(box)).astype(int)


# ------------------------------------------------------------------------------------- its data


@pytest.mark.parametrize("limit", [5000, 11])
def test_neighbours_are_those_of_the_evaluation_whether_sampled_or_not(page, six, limit):
    rows, label, images = six
    near, words = write(page, rows, images, limit=limit)
    data = known(page)
    number = min(limit, 42)
    assert data["opened"] == number and data["depth"] == 12
    assert f"{number} of 42 images can be opened" in words
    check_neighbours(data, near, images.paths, label=label)
    assert len(set(data["files"])) == len(data["files"])  # none is shown twice
    said = "All 42 test images can" if limit > 42 else "A sample of 11 of 42 test images"
    assert said in " ".join(read(page).text)


def test_images_without_anything_to_find_are_a_catalogue(page, tmp_path):
    rows, _ = singletons()
    label = torch.arange(len(rows))
    write(page, rows, pictures(tmp_path / "i", label, names(len(rows))))
    text = " ".join(read(page).text)
    assert f"All {len(rows)} catalogue images can" in text and "test images" not in text


def test_every_picture_is_its_image(page, tmp_path):
    rows, label = clusters(0, classes=30, per_class=5)  # more than one sheet
    write(page, rows, pictures(tmp_path / "i", label, names(30)), limit=40)
    data = known(page)
    assert len(data["files"]) > 100
    for file, cell in zip(data["files"], cells(page, data)):
        assert np.abs(cell - shade(int(file[:3]))).max() < 6


@pytest.mark.parametrize("rows,label", [clusters(0, noise=2.0), singletons(), one_class()])
def test_class_numbers_are_those_of_per_class_and_confusions(rows, label):
    label = label.unique(return_inverse=True)[1]
    class_names = names(int(label.max()) + 1)
    images = ImageList([Path()] * len(label), label.tolist(), class_names)
    near = nearest(rows, rows, 1, exclude_self=True)[1][:, 0]
    lines = class_lines(near, images, None)
    values, query = query_values(rows, label, ["e_recall@1"])
    table = {row["class"]: row for row in class_table(values, query, label, class_names)}
    pairs = {}
    for line in lines:
        row = table[line.name]
        assert line.images == row["images"]
        assert line.hits / line.queries == row["e_recall@1"] if line.queries else line.images == 1
        assert line.hits + sum(count for _, count in line.taken_for) == line.queries
        pairs |= {(line.name, lines[other].name): count for other, count in line.taken_for}
    expected = confusions(near, label, class_names)
    assert pairs == {(pair.name, pair.taken_for): pair.count for pair in expected}
    recall = sum(line.hits for line in lines) / sum(line.queries for line in lines)
    assert recall == pytest.approx(evaluate(rows, label, ["e_recall@1"])["e_recall@1"], abs=1e-12)


def test_neighbours_come_from_a_separate_gallery(page, tmp_path):
    rows, label = clusters(0, noise=2.0)
    label[24:] %= 5  # class 5 has nothing to find
    images = pictures(tmp_path / "q", label[:24], names(6))
    gallery = pictures(tmp_path / "g", label[24:], names(6), start=100)
    near, _ = write(page, rows[:24], images, gallery_rows=rows[24:], gallery=gallery, limit=9)
    data = known(page)
    assert data["opened"] == 9 and data["gallery"] and data["neighbour"].min() == 9
    check_neighbours(data, near, gallery.paths)
    found = label[:24][label[:24] < 5]
    assert [line[2] for line in data["classes"]] == torch.bincount(found, minlength=6).tolist()
    assert "the 18 images of the gallery" in " ".join(read(page).text)


def test_the_map_has_the_points_of_the_picture_that_can_be_opened(page, six):
    rows, label, images = six
    write(page, rows, images, mapped=30)
    data = known(page)
    places = place_images(rows, label, 30)
    files = [data["files"][picture] for picture in data["shown"]]
    assert files == [f"{row:03d}.png" for row in places.row]
    assert np.array_equal(data["point"].reshape(-1, 2), places.point.numpy())
    assert data["drawn"] == list(range(6))
    write(page, rows, images, mapped=30, limit=10)
    few = known(page)
    assert 0 < len(few["shown"]) <= 10 and few["shown"].max() < 10 and few["drawn"] == data["drawn"]
    write(page, rows, images)
    assert not len(known(page)["shown"])


def test_an_unreadable_image_is_crossed_out_and_counted(page, six):
    rows, _, images = six
    images.paths[3].write_bytes(b"\x89PNG\r\n\x1a\n0000")
    images.paths[5].unlink()
    _, words = write(page, rows, images)
    data = known(page)
    assert data["unreadable"] == [3, 5] and "2 of them unreadable" in words
    assert "2 images could not be read" in " ".join(read(page).text)
    contrast = [cell.std((0, 1)).max() for cell in cells(page, data)]
    assert contrast[4] < 1 and min(contrast[3], contrast[5]) > 5


@pytest.fixture
def image(tmp_path):
    """A file of 300 by 150 pixels."""
    Image.new("RGB", (300, 150), "red").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_sheets_of_colour_noise(tmp_path):
    """Noise is the least that JPEG can make smaller."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(COLUMNS):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(paths[-1])
    [sheet] = draw_atlas(paths).sheets
    assert Image.open(io.BytesIO(sheet)).size == (COLUMNS * SIDES[0], SIDES[0])



def test_thumbnails_show_the_whole_image_in_a_light_square(image):
    atlas = draw_atlas([image] * 3)
    assert atlas.side == SIDES[0] and len(atlas.sheets) == 1
    pixels = np.asarray(Image.open(io.BytesIO(atlas.sheets[0])))
    assert pixels[48, 48, 0] > 240 and pixels[5, 48].min() > 230


def test_more_images_are_smaller_ones(image, monkeypatch):
    monkeypatch.setattr("evaluation.explorer.atlas.PIXELS", 12 * SIDES[1]**2)
    atlas = draw_atlas([image] * 12)
    assert atlas.side == SIDES[1]
    assert Image.open(io.BytesIO(atlas.sheets[0])).size == (COLUMNS * SIDES[1], 2 * SIDES[1])
    monkeypatch.setattr("evaluation.explorer.atlas.PIXELS", 1)
    assert draw_atlas([image] * 101).side == SIDES[-1]


def test_small_images_are_hardly_enlarged(image, tmp_path):
    small = tmp_path / "small.png"
    Image.new("RGB", (30, 60), "red").save(small)
    assert draw_atlas([small] * 3).side == 64
    assert draw_atlas([small, image, tmp_path / "none.png"]).side == SIDES[0]


# ------------------------------------------------------------------------------------- its page


def test_names_of_unknown_origin_stay_text(page, tmp_path):
    rows, label = clusters(0)
    images = pictures(tmp_path / "i", label, [f"{EVIL}{c}" for c in range(5)] + ["x" * 10**5])
    file = "<b onclick=alert(2)>&\".png"
    images.paths[0] = images.paths[0].rename(tmp_path / "i" / file)
    heading = HEADING._replace(title=EVIL, facts=[EVIL], metrics={EVIL: 0.5})
    write(page, rows, images, heading=heading)
    elements = read(page)
    assert not elements.named("img") and not elements.named("b")
    assert len(elements.named("script")) == 2
    for _, attributes in elements.tags:
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
    data = known(page)
    assert data["classes"][1][0] == f"{EVIL}1".replace("\x1b", "\ufffd")
    assert len(data["classes"][5][0]) == LONGEST and data["files"][0] == file
    text = page.read_text(encoding="utf-8")
    # the table of marks needs the name in full, once
    assert data["full"] == {"5": "x" * 10**5} and text.count("x" * (LONGEST + 1)) == 10**5 // (LONGEST + 1)
    assert "\x1b" not in text


@pytest.mark.parametrize("paths,root", [
    (["/p/a/1.png", "/p/b/2.png"], "/p"),
    (["/p/a/1.png", "/p/a/b/2.png"], "/p/a"),
    (["p/a/1.png", "p/ab/2.png"], "p"),
    (["a/1.png", "b/2.png"], ""),
    (["1.png", "a/2.png"], ""),
    (["/1.png", "/a/2.png"], "/"),
])
def test_the_table_of_marks_begins_in_the_deepest_folder_of_all_images(paths, root):
    lines = [ClassLine("ant", 2, 2, 2, [])]
    empty = torch.empty(0)
    near = torch.tensor([[1], [0]])
    paths = [Path(path) for path in paths]
    shown = (paths, torch.tensor([0, 0]), near, near, lines, [0], ["ant"], empty, empty, [], 2, None)
    assert marking(Explorer(*shown), None)["root"] == root


def test_classes_of_one_name_stay_apart_in_the_table_of_marks(page, tmp_path):
    rows, label = clusters(0)
    images = pictures(tmp_path / "i", label, ["ant", "bee", "ant", "cat", "dog", "eel"])
    write(page, rows, images)
    assert known(page)["full"] == {"0": "ant #0", "2": "ant #2"}


def test_the_policy_allows_its_own_script_and_style_and_no_request(page, six):
    rows, _, images = six
    write(page, rows, images, mapped=30)
    elements = read(page)
    metas = {meta.get("http-equiv"): meta.get("content") for meta in elements.named("meta")}
    policy = metas["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:" and "unsafe" not in policy and "http" not in policy
    for kind, attributes, code in elements.code:
        if attributes.get("id") != "data":
            digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
            assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]+/|@import|innerHTML|eval\(", text)


def test_the_heading_has_its_metrics_and_leads_back(page, six):
    rows, _, images = six
    write(page, rows, images)
    elements = read(page)
    assert elements.named("a") == [{"href": "report.html"}]
    assert {"50.0", "1.250", "a run"} <= set(elements.text)


def test_every_control_has_a_name(page, six):
    rows, _, images = six
    write(page, rows, images, mapped=30)
    elements = read(page)
    ids = {attributes.get("id") for _, attributes in elements.tags}
    ids.add("picked")  # the script makes it
    controls = elements.named("canvas") + elements.named("select")
    assert all(control["aria-label"] for control in controls)
    for _, attributes in elements.tags:
        for name in ("aria-controls", "aria-labelledby", "aria-describedby"):
            assert attributes.get(name, "picked") in ids


# ---------------------------------------------------------------------------------- the command


def saved(folder, rows, label, images):
    """Write the files of evaluation.embed; returns the arguments that name them."""
    np.save(folder / "e.npy", rows.numpy())
    lines = ["path,label,class"]
    for path, c in zip(images.paths, label.tolist()):
        lines.append(f"{path.name},{c},{images.class_names[c]}")
    (folder / "l.csv").write_text("\n".join(lines) + "\n")
    return [str(folder / "e.npy"), str(folder / "l.csv"), str(images.paths[0].parent)]


def test_the_command_explores_saved_embeddings(page, six, tmp_path, capsys):
    rows, label, images = six
    argv = saved(tmp_path, rows * 3, label, images)  # rows need no length one
    argv += ["--out", str(page), "--map_images", "30", "--explorer_images", "40"]
    assert main(argv) == 0
    assert "40 of 42 images can be opened, 42 are shown at 48 pixels;" in capsys.readouterr().out
    data = known(page)
    check_neighbours(data, nearest(rows, rows, 12, exclude_self=True)[1], images.paths)
    assert data["opened"] == 40 and [line[0] for line in data["classes"]] == names(6)
    elements = read(page)
    recall = evaluate(rows, label, ["c_recall@1"])["c_recall@1"]
    assert {f"{100 * recall:.1f}", tmp_path.name} <= set(elements.text) and not elements.named("a")


def test_the_command_explores_images_without_anything_to_find(page, tmp_path):
    rows, _ = singletons()
    label = torch.arange(len(rows))
    images = pictures(tmp_path / "i", label, names(len(rows)))
    assert main([*saved(tmp_path, rows, label, images), "--out", str(page)]) == 0
    assert f"All {len(rows)} catalogue images can" in " ".join(read(page).text)


def test_the_command_takes_a_title_and_leads_to_a_report(page, six, tmp_path):
    rows, label, images = six
    (tmp_path / "report.html").touch()
    argv = saved(tmp_path, rows, label, images)
    assert main([*argv, "--out", str(page), "--title", "<mine>", "--metrics"]) == 0
    elements = read(page)
    assert elements.named("a") == [{"href": "report.html"}] and "<mine>" in elements.text


def test_the_command_matches_the_classes_of_a_gallery_by_name(page, tmp_path):
    rows, label = clusters(0)
    for name in "qg":
        (tmp_path / name).mkdir()
    images = pictures(tmp_path / "q" / "i", label, names(6))
    gallery = pictures(tmp_path / "g" / "i", 5 - label, names(6)[::-1], start=100)
    argv = saved(tmp_path / "q", rows, label, images)
    argv += ["--gallery", *saved(tmp_path / "g", rows, 5 - label, gallery)]
    assert main([*argv, "--out", str(page), "--metrics", "c_recall@1"]) == 0
    data = known(page)
    # each finds itself
    assert data["gallery"] and all(line[2] == line[3] == 7 for line in data["classes"])
    nearest = [data["files"][near[0]] for near in data["neighbour"]]
    assert nearest == [path.name for path in gallery.paths]


def table(text):
    """Writes this labels.csv."""
    return lambda folder: (folder / "l.csv").write_text(text)


@pytest.mark.parametrize("change,code,words", [
    (table("label\n" + "0\n" * 42), 2, "column path"),
    (table("path,label\n" + "../e.npy,0\n" * 42), 2, "inside of it"),
    (table("path,label\n" + "C:\\x.png,0\n" * 42), 2, "inside of it"),
    (table("path,label\n" + "a.png,0\n" * 3), 2, "3 lines for 42 rows"),
    (lambda folder: (folder / "e.npy").unlink(), 2, "no such file"),
    (lambda folder: (folder / "i").rename(folder / "moved"), 2, "no such folder"),
    (lambda folder: np.save(folder / "e.npy", np.full((42, 8), np.nan)), 2, "e.npy: row 0"),
    (lambda folder: (folder / "e.html").mkdir(), 2, "name a file"),
])
def test_what_cannot_be_explored_is_one_sentence(page, six, tmp_path, capsys, change, code, words):
    argv = saved(tmp_path, *six)
    change(tmp_path)
    assert main([*argv, "--out", str(page), "--map_images", "0"]) == code
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if line.startswith("evaluation.explorer: ")]
    assert len(said) == 1 and words in said[0]


def test_a_file_that_is_read_is_not_written(six, tmp_path, capsys):
    argv = saved(tmp_path, *six)
    for path in (argv[1], six[2].paths[3]):
        assert main([*argv, "--out", str(path), "--map_images", "0"]) == 2
        assert "is a file that this command reads" in capsys.readouterr().err


def test_a_wrong_metric_is_refused_before_anything_is_read(capsys):
    assert main(["absent.npy", "absent.csv", "absent", "--out", "x", "--metrics", "recall@1"]) == 2
    assert "e_recall@" in capsys.readouterr().err
