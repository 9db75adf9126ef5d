"""report.html: it contains everything, escapes everything, and is made of whatever exists."""
import base64
import csv
import io
import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from evaluation.pages import LONGEST
from evaluation.report.command import main
from evaluation.report.context import CONTEXT, context_warning
from evaluation.report.curves import context_charts, held_out_line
from evaluation.report.image_data import image_data
from evaluation.report.page import PICTURE_LIMIT, ROWS, duration, report, write_report
from evaluation.report.scores import scores
from evaluation.run_files import EXPLORER, REPORT, read_run
from parameters import get_options
from tests.evaluation.pages import Reader
from utilities.logger import provenance

EVIL = "<script>alert(1)</script>\"'&\x1b\x00\u202e"
METRICS = ["e_recall@1", "nmi", "rho_spectrum@-1"]
HEADINGS = [
    "Results",
    "Results over the training",
    "Losses and speed",
    "Learned pair weights",
    "Choices of the policy",
    "Context and memory",
    "Nearest images",
    "Map of the test images",
    "Classes",
    "Flags",
    "Origin",
]
CELLS = [
    "75.0 [70.0, 80.0]",
    "1.0",
    "60.0",
    "0.123",
    "best e_recall@1 (epoch 7, by val)",
    "--lr",
    "0.5",
    "1 h 23 min",
    "12.5 s",
    "321.5",
    "9 of 12",
    "abc123 and uncommitted changes",
    "Memory NLL",
    "queries with a hit among the nearest 1",
    "how unevenly the dimensions are used",
    "held-out classes",
    "Correlation of largest weight and AP",
    "+0.0125",
    "untrained 1.0 · best 75.0",
    "0.0312",
    "Standard deviation over images",
    "The context is close to a constant",
]


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_noise(path, width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def result():
    """result.json of the run."""
    best = {"e_recall@1": 0.75, "e_recall@1_low": 0.7, "e_recall@1_high": 0.8, "nmi": 0.5}
    entry = {"epoch": 7, "value": 0.75, "chosen_on": "val", "metrics": best}
    return {
        "untrained": {"e_recall@1": 0.01, "nmi": 0.2, "rho_spectrum@-1": 1.5},
        "final": best | {"nmi": 0.6, "rho_spectrum@-1": 0.123},
        "seconds": 5000,
        "seconds_per_epoch": 12.5,
        "best": {"e_recall@1": entry},
        "steps": 400,
        "held_out_advantage_over_uniform": {"mean": 0.0125, "standard_error": None, "batches": 3},
        "peak_memory_mib": 321.5,
    }


def epoch_row(n):
    """Line n of metrics.csv."""
    return {
        "epoch": n,
        "step": 10 * n,
        "e_recall@1": n / 10,
        "val_e_recall@1": n / 20,
        "loss": 2 / (n + 1),
        "e_recall@1_low": n / 11,
        "e_recall@1_high": n / 9,
        "held_out_advantage": n / 50,
        "held_out_advantage_error": 0.01,
        "held_out_context_std": 0.0625,
        "held_out_context_ratio": 0.01,
        "held_out_context_r2": n - 7.5,
    }


def step_row(n):
    """Line n of steps.csv."""
    return {
        "epoch": 1,
        "step": n,
        "loss": 1 / n,
        "memory_nll": 2 / n,
        "lr_new": 1e-3,
        "images_per_second": 50,
        "reward": 0.5,
        "expected_positive": 2,
        "advantage_over_uniform": 0.1,
        "held_out_advantage": 0.0,
        "correlation_negative": -0.4,
        "context_std": 0.03125,
        "context_r2": -20,
    }


def confusion_row(n):
    return {"name": f"{EVIL}{n}", "taken_for": "b", "count": 9, "queries": 12, "share": 0.75}


def class_row(n):
    return {"class": f"{EVIL}{n}", "images": 12, "e_recall@1": n / 100}


@pytest.fixture
def run(tmp_path):
    """A finished run with everything that a folder can contain."""
    folder = tmp_path / "the run"
    folder.mkdir()
    opt = get_options(["--lr", "0.5", "--evaluation_metrics", *METRICS])
    # as a file of hostile origin has it
    opt.savename = EVIL
    options = provenance(vars(opt), "cpu")
    options |= {"commit": "abc123", "uncommitted_changes": True}
    (folder / "options.json").write_text(json.dumps(options))
    (folder / "result.json").write_text(json.dumps(result()))
    write_csv(folder / "metrics.csv", [epoch_row(n) for n in range(9)])
    write_csv(folder / "steps.csv", [step_row(n) for n in range(1, 30)])
    write_csv(folder / "confusions.csv", [confusion_row(n) for n in range(3 * ROWS)])
    write_csv(folder / "per_class.csv", [class_row(n) for n in range(40)])
    write_noise(folder / "gallery.png", 60, 80)
    write_noise(folder / "embedding.png", 40, 30)
    write_noise(folder / "policy.png", 40, 30)
    return folder


def page_of(folder):
    page = Reader(report(read_run(folder)))
    assert not page.open  # every element is closed, in order
    return page


def test_the_page_has_every_number(run):
    text = " | ".join(page_of(run).text)
    for cell in CELLS:
        assert cell in text, cell


def test_the_command_to_repeat_the_run_is_one_for_a_shell(run):
    moved = run.rename(run.with_name("a run & more"))
    command = next(text for tag, text in page_of(moved).texts if "main.py --repeat" in text)
    assert shlex.split(command) == ["python", "main.py", "--repeat", str(moved / "options.json")]


def test_the_page_has_every_part_in_order(run):
    page = page_of(run)
    text = page.text
    assert [text for tag, text in page.texts if tag == "h2"] == HEADINGS
    assert text[text.index("--lr") + 1] == "0.5"
    # flags that were chosen come before defaults; those without effect are left out
    assert text.index("--lr") < text.index("--bs")
    assert "--loss_margin_nu" not in text
    start, end = (text.index(title, len(HEADINGS)) for title in HEADINGS[2:4])
    training = text[start:end]
    assert not any("held_out" in part or "context" in part for part in training)


def sections(page):
    return [section["id"] for section in page.named("section")]


def test_the_contents_lead_to_every_section_that_exists(run):
    page = page_of(run)
    links = [link["href"] for link in page.named("a")]
    assert links == [f"#{name}" for name in sections(page)] and len(links) == len(HEADINGS)
    assert [text for tag, text in page.texts if tag == "a"] == HEADINGS
    for path in run.glob("*.[cp][sn][vg]"):
        path.unlink()
    page = page_of(run)
    assert sections(page) == ["results", "flags", "origin"]
    assert [text for tag, text in page.texts if tag == "a"] == ["Results", "Flags", "Origin"]


def test_the_advantage_on_held_out_classes_has_its_standard_error(run):
    x, y, low, high = held_out_line(read_run(run)).points.T
    assert x.tolist() == [10 * n for n in range(9)] and y.tolist() == [n / 50 for n in range(9)]
    assert (high - y).tolist() == pytest.approx([0.01] * 9)
    assert (y - low).tolist() == pytest.approx([0.01] * 9)


def test_the_context_is_drawn_on_training_batches_and_on_held_out_classes(run):
    charts = {chart.title: dict(chart.legend) for chart in context_charts(read_run(run))}
    assert charts["Standard deviation over images"] == {
        "training batches": "0.0312", "held-out classes": "0.0625",
    }
    # an R² of -20 would leave nothing to see of the others
    assert charts["R² of the decoded context (from −1)"] == {
        "training batches": "-1", "held-out classes": "0.5",
    }
    assert list(charts) == [title for name, title in CONTEXT.items() if name != "context_class_share"]


def context_row(epoch=3, std=0.2, ratio=0.3, r2=0.4):
    return {
        "epoch": epoch,
        "held_out_context_std": std,
        "held_out_context_ratio": ratio,
        "held_out_context_r2": r2,
    }


@pytest.mark.parametrize("row, expected", [
    (context_row(ratio=0.04), "close to a constant"),
    (context_row(r2=-0.5), "no more than a constant"),
    ({"epoch": 3, "held_out_context_std": 0.0}, "close to a constant"),
])
def test_a_constant_context_is_named(row, expected):
    not_evaluated = {"epoch": 4, "loss": 1.0}
    assert expected in context_warning([context_row(), row, not_evaluated])


def test_a_context_that_lives_is_not_named():
    untrained = context_row(epoch=0, ratio=0.01, r2=-400)
    assert context_warning([context_row(ratio=0.04), context_row()]) == ""
    assert context_warning([untrained]) == context_warning([]) == ""
    assert context_warning([{"epoch": 3, "held_out_advantage": 0.1}]) == ""


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(run):
    page = page_of(run)
    for tag in ("script", "link", "iframe", "object", "base", "form"):
        assert not page.named(tag)
    for _, attributes in page.tags:
        assert not {"srcset", "action", "style"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert all(image["src"].startswith("data:image/") for image in page.named("img"))
    text = report(read_run(run))
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text and "unsafe" not in text


def test_it_leads_to_the_explorer_where_there_is_one(run):
    (run / EXPLORER).touch()
    assert page_of(run).named("a")[0] == {"href": "explorer.html"}


def test_names_of_unknown_origin_stay_text(run):
    page = page_of(run)
    assert not page.named("script") and "<script>alert(1)</script>" in " ".join(page.text)
    text = report(read_run(run))
    assert "\x1b" not in text and "\x00" not in text
    options = json.loads((run / "options.json").read_text())
    options["flags"]["savename"] = "x" * 10**6
    (run / "options.json").write_text(json.dumps(options))
    assert "x" * LONGEST not in report(read_run(run))


def test_names_of_columns_stay_text(run):
    write_csv(run / "steps.csv", [{"step": n, EVIL: n} for n in range(3)])
    page = page_of(run)
    assert not page.named("script") and "<script>alert(1)</script>" in " ".join(page.text)


def test_every_picture_has_words_and_every_table_headers(run):
    page = page_of(run)
    images = page.named("img")
    assert len(images) == 3 and all(len(image["alt"]) > 20 for image in images)
    drawings = page.named("svg")
    assert drawings and all(drawing["role"] == "img" for drawing in drawings)
    assert all(len(drawing["aria-label"]) > 20 for drawing in drawings)
    assert len(page.named("table")) == 6
    assert all(len(table["aria-label"]) >= 8 for table in page.named("table"))
    assert {head["scope"] for head in page.named("th")} == {"row", "col"}


def test_the_page_stays_below_its_limit(run):
    # noise is the worst that WebP can meet
    for number, name in enumerate(("gallery.png", "embedding.png", "policy.png")):
        write_noise(run / name, 1700, 2000, number)
    write_csv(run / "steps.csv", [step_row(n) for n in range(1, 20_000)])
    assert len(report(read_run(run)).encode()) < 3_000_000


# what lies right of the screen and in no box that scrolls
CUT = """[...document.querySelectorAll("body *")].filter((one) => !one.closest(".scroll")
    && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_and_the_page_does_not_scroll_sideways(run, browser, width, scheme):
    write_noise(run / "gallery.png", 1200, 900)
    address = write_report(run).as_uri()
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.goto(address)
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CUT) == []
    page.click("nav a >> text=Classes")
    assert page.locator("#classes").evaluate("one => one.getBoundingClientRect().top") < 844
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.search(r"\d+", back)[0]) > 128) == (scheme == "light")
    page.close()


def decoded(path):
    """The kind of an image in the page, its bytes, and its size as the page has it."""
    image = image_data(path, PICTURE_LIMIT)
    kind, content = re.fullmatch(r"data:image/(\w+);base64,(.*)", image.source).groups()
    return kind, base64.b64decode(content), (image.width, image.height)


def test_small_pictures_stay_as_they_are(run):
    kind, content, size = decoded(run / "embedding.png")
    assert kind == "png" and content == (run / "embedding.png").read_bytes() and size == (40, 30)


def test_large_pictures_become_smaller(run):
    write_noise(run / "gallery.png", 1800, 2400)
    kind, content, size = decoded(run / "gallery.png")
    assert kind == "webp" and len(content) <= PICTURE_LIMIT
    assert Image.open(io.BytesIO(content)).size == size


def test_transparent_pixels_stay_so(run):
    Image.new("RGBA", (2000, 2000), (0, 0, 0, 0)).save(run / "clear.png", compress_level=0)
    kind, content, _ = decoded(run / "clear.png")
    assert kind == "webp" and Image.open(io.BytesIO(content)).getpixel((5, 5))[3] == 0


def test_an_unfinished_run_is_shown_as_far_as_it_is(run):
    for name in ("result.json", "gallery.png", "confusions.csv", "per_class.csv"):
        (run / name).unlink()
    steps = run / "steps.csv"
    steps.write_text(steps.read_text()[:-7])  # its last line is being written
    text = page_of(run).text
    assert any("has not finished" in part for part in text)
    assert "Nearest images" not in text and "Classes" not in text
    columns = scores(read_run(run))
    assert columns["epoch 8"]["e_recall@1"] == 0.8 and columns["untrained"]["e_recall@1"] == 0.0
    assert columns["validation classes, last"] == {"e_recall@1": 0.4}


@pytest.mark.parametrize("name", [
    "result.json",
    "metrics.csv",
    "steps.csv",
    "confusions.csv",
    "per_class.csv",
    "gallery.png",
    "policy.png",
])
@pytest.mark.parametrize("content", [
    b"",
    b"\x00\xff\x00",
    b"[1, 2]",
    b'{"final": 3, "best": [1]}',
    b'{"final": {"nmi": "x"}, "best": {"a": 1, "b": {"metrics": {"nmi": []}}}}',
    b'{"final": {"nmi": NaN}, "seconds": NaN, "untrained": {"nmi": 1e999}}',
    b"a,b\n1\n,,,\n",
    b"\x89PNG\r\n\x1a\n0000",
    b"\xff\xd8\xff",
    b'{"final": {"nmi": 1' + 400 * b"0" + b"}}",
])
def test_damaged_files_are_left_out(run, name, content):
    (run / name).write_bytes(content)
    page_of(run)


def test_flags_of_another_version_are_shown_without_order(run):
    options = {"flags": {"loss": 3, "recipe": "x", "lr": None}, "versions": "x"}
    (run / "options.json").write_text(json.dumps(options))
    assert "--recipe" in page_of(run).text


@pytest.mark.parametrize("seconds,text", [
    (59.94, "59.9 s"),
    (90, "2 min"),
    (3600, "1 h 0 min"),
    ("x", None),
    (float("nan"), None),
    (None, None),
])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_command_writes_the_page_and_refuses_other_folders(run, tmp_path, capsys):
    assert main([str(run)]) == 0 and (run / REPORT).read_text().startswith("<!DOCTYPE html>")
    assert capsys.readouterr().out.strip() == str(run / REPORT)
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is not the folder of a run" in error and error.count("\n") == 1
