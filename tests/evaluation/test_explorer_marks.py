"""Marks in explorer.html, made in a real browser, and the table that they are saved as."""
import csv
import shutil

import numpy as np
import pytest

from datasets.image_folder import image_folder
from evaluation.explorer.command import main
from evaluation.score import numbered, read_table
from tests.evaluation.pages import known, pictures, write
from tests.evaluation.sets import clusters
from utilities.labels import read_lines

pytestmark = pytest.mark.slow
CLASSES = ["ant", "bee", "=cat", "3", "-dog, wild", 'e"f']
# what one of them is called, typed otherwise
THREE = " 03.0"


@pytest.fixture
def made(tmp_path):
    """A page of six classes of seven images; some names would be formulas, or end in a space."""
    rows, label = clusters(0, noise=2.0)
    images = pictures(tmp_path / "i", label, CLASSES)
    for place, name in enumerate(["=1.png", "-2.png", "@3, b.png", "+4.png", " 5.png"]):
        images.paths[place] = images.paths[place].rename(tmp_path / "i" / name)
    near, _ = write(tmp_path / "explorer.html", rows, images)
    return tmp_path / "explorer.html", images, near


@pytest.fixture
def visit(browser):
    """Opens a page in a profile of its own; afterwards nothing stands on the console."""
    messages = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})

    def visit(path):
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page
    yield visit
    context.close()
    assert not messages


def show(page, picture):
    """Open an image and its form."""
    page.click("#tab-images")
    page.locator(f'#grid [data-picture="{picture}"]').click()
    if not page.locator(".marking input").first.is_visible():
        page.click(".marking summary")


def mark(page, picture, field, value):
    show(page, picture)
    part = page.locator(f".marking [name={field}]")
    if field == "duplicate":
        part.select_option(str(value))
    else:
        part.fill(value)
        part.press("Tab")


def save(page, path):
    """Save the table by the mouse."""
    page.click("#tab-marks")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "labels.csv"
    download.value.save_as(path)
    return path


def by_path(table):
    return {line["path"]: line for line in read_lines(table, ["path", "label"])}


def test_the_saved_table_is_read_with_the_corrections(visit, made):
    path, images, near = made
    original = int(near[7, 0])
    page = visit(path)
    mark(page, 0, "label", THREE)
    mark(page, 1, "label", "+new, \"one\"")
    mark(page, 2, "note", "=blurred, \"dark\"")
    mark(page, 7, "duplicate", original)
    table = save(page, images.paths[0].parent / "labels.csv")
    splits = image_folder(table.parent)
    read = {}
    for part in (splits.train, splits.test):
        for file, c in zip(part.paths, part.labels):
            read[file] = part.class_names[c]
    expected = {file: CLASSES[c] for file, c in zip(images.paths, images.labels)}
    expected |= {images.paths[0]: "3", images.paths[1]: '+new, "one"'}
    del expected[images.paths[7]]
    assert read == expected
    lines = by_path(table)
    before = {name: line["label_before"] for name, line in lines.items() if line["label_before"]}
    assert before == {f"./{images.paths[i].name}": CLASSES[images.labels[i]] for i in (0, 1)}
    assert lines["./@3, b.png"]["note"] == '=blurred, "dark"'
    repeats = [line["duplicates"] for line in lines.values() if line["duplicates"]]
    assert repeats == ["007.png"]
    with table.open(newline="", encoding="utf-8") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_score_reads_the_saved_table(visit, made):
    path, images, _ = made
    page = visit(path)
    mark(page, 0, "label", "bee")
    table = save(page, path.parent / "new.csv")
    labels = numbered([read_table(str(table), 42, ["path", "label"])])[0]
    expected = [CLASSES[c] for c in images.labels]
    expected[0] = "bee"
    # row by row, in the order of the embeddings
    order = sorted(set(CLASSES))
    assert [order[number] for number in labels.tolist()] == expected


def test_marks_survive_a_reload_and_are_undone(visit, made):
    path, _, near = made
    page = visit(path)
    mark(page, 9, "label", "ant")
    mark(page, 9, "note", "small")
    mark(page, 30, "duplicate", int(near[30, 2]))
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.inner_text("#tab-marks") == "Marks (2)"
    assert page.locator("#grid .noted").count() == 2
    show(page, 9)
    assert page.input_value(".marking [name=label]") == "ant"
    page.click("#tab-marks")
    words = page.locator("#marks .words").all_inner_texts()
    assert words[0] == "Wrong label, right: ant. Note: small"
    assert words[1].startswith("Duplicate of ")
    page.locator("#marks .chip").first.click()
    # the form of the image that is open follows
    assert page.input_value(".marking [name=label]") == ""
    page.locator("#marks .chip").first.click()
    assert page.inner_text("#tab-marks") == "Marks" and not page.locator("#save").is_visible()
    assert "No image is marked" in page.inner_text("#view-marks")
    assert page.locator("#grid .noted").count() == 0


def test_marks_belong_to_the_images_and_classes_of_a_page(visit, made):
    path, images, _ = made
    page = visit(path)
    mark(page, 9, "note", "small")
    same = path.with_name("later.html")
    rows, _ = clusters(1, noise=2.0)
    write(same, rows, images)
    assert visit(same).inner_text("#tab-marks") == "Marks (1)"
    other = path.with_name("other.html")
    write(other, rows, images._replace(labels=images.labels[::-1]))
    assert visit(other).inner_text("#tab-marks") == "Marks"


def test_the_keyboard_marks_saves_and_undoes(visit, made):
    path, images, _ = made
    page = visit(path)
    press = page.keyboard.press
    page.locator('#grid [data-picture="20"]').focus()
    press("Enter")
    press("m")
    page.keyboard.type("bee")
    press("Tab")
    press("Tab")
    page.keyboard.type("my note")
    press("Tab")
    assert page.inner_text("#tab-marks") == "Marks (1)"
    page.locator("#tab-images").focus()
    press("ArrowLeft")
    press("Tab")
    with page.expect_download() as download:
        press("Enter")
    table = path.with_name("t.csv")
    download.value.save_as(table)
    line = by_path(table)[images.paths[20].name]
    assert (line["label"], line["note"]) == ("bee", "my note")
    press("Tab")
    press("Tab")
    press("Enter")
    assert page.inner_text("#tab-marks") == "Marks"
    assert page.evaluate("document.activeElement.id") == "tab-marks"


def test_the_original_of_a_duplicate_cannot_be_its_duplicate(visit, made):
    path, _, near = made
    page = visit(path)
    pairs = [(i, j) for i in range(42) for j in near[i].tolist() if i in near[j].tolist()]
    one, other = pairs[0]
    mark(page, one, "duplicate", other)
    show(page, other)
    option = page.locator(f'.marking [name=duplicate] option[value="{one}"]')
    assert option.is_disabled()


def test_a_file_that_no_table_can_name_is_left_out_and_counted(visit, tmp_path):
    rows, label = clusters(0)
    images = pictures(tmp_path / "i", label, CLASSES)
    images.paths[3] = images.paths[3].rename(tmp_path / "i" / "a\\b.png")
    write(tmp_path / "e.html", rows, images)
    page = visit(tmp_path / "e.html")
    mark(page, 0, "note", "x")
    table = save(page, tmp_path / "i" / "labels.csv")
    assert "1 image cannot be named in a table" in page.inner_text("#marks-words")
    assert len(by_path(table)) == 41


def test_paths_of_the_command_begin_in_the_folder_of_its_table(visit, tmp_path):
    rows, label = clusters(0)
    images = pictures(tmp_path / "deep", label, CLASSES)
    np.save(tmp_path / "e.npy", rows.numpy())
    lines = ["path,label", *(f"deep/{file.name},{c}" for file, c in zip(images.paths, images.labels))]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    page = tmp_path / "e.html"
    argv = [str(tmp_path / name) for name in ("e.npy", "l.csv", "")]
    assert main([*argv, "--out", str(page), "--map_images", "0"]) == 0
    assert known(page)["root"] == str(tmp_path)
    opened = visit(page)
    mark(opened, 5, "note", "x")
    table = save(opened, tmp_path / "new.csv")
    assert list(by_path(table)) == [f"deep/{file.name}" for file in images.paths]
    shutil.copy(table, tmp_path / "labels.csv")
    assert len(image_folder(tmp_path).train.paths) == 21


def test_images_of_a_gallery_are_not_in_the_table(visit, tmp_path):
    rows, label = clusters(0, noise=2.0)
    images = pictures(tmp_path / "q", label[:24], CLASSES)
    gallery = pictures(tmp_path / "g", label[24:], CLASSES, start=24)
    write(tmp_path / "e.html", rows[:24], images, gallery_rows=rows[24:], gallery=gallery)
    page = visit(tmp_path / "e.html")
    mark(page, 0, "note", "x")
    table = save(page, tmp_path / "q" / "new.csv")
    assert list(by_path(table)) == [file.name for file in images.paths]
