"""report.html: one page that holds everything, escapes everything, and is made of whatever is there."""
import base64
import csv
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from evaluation.report import LONGEST, PICTURE_LIMIT, ROWS, main, read_run, report, scores
from evaluation.report.curves import _held_out
from evaluation.run_files import EXPLORER, REPORT
from parameters import get_options
from utilities.html import clean, element, picture
from utilities.logger import provenance

EVIL = "<script>alert(1)</script>\"'&\x1b\x00\u202e"
METRICS = ["e_recall@1", "nmi", "rho_spectrum@-1"]


class Reader(html.parser.HTMLParser):
    """Tags that are closed in order, the texts, and the attributes."""

    VOID = {"meta", "img", "link", "br", "hr", "input"}

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.attributes, self.headings = [], [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)

    def rows(self):
        return re.split(r"\s*\n\s*", "\n".join(self.text))


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def noise(path, width, height, seed=0):
    array = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(array).save(path)


@pytest.fixture
def run(tmp_path):
    """A finished run with everything that a folder can hold."""
    folder = tmp_path / "the run"
    folder.mkdir()
    opt = get_options(["--lr", "0.5", "--savename", EVIL, "--evaluation_metrics", *METRICS])
    (folder / "options.json").write_text(json.dumps(provenance(vars(opt), "cpu") | {
        "commit": "abc123", "uncommitted_changes": True}))
    untrained = {"e_recall@1": 0.01, "nmi": 0.2, "rho_spectrum@-1": 1.5}
    best, final = ({"e_recall@1": 0.75, "e_recall@1_low": 0.7, "e_recall@1_high": 0.8, "nmi": n} for n in (0.5, 0.6))
    (folder / "result.json").write_text(json.dumps({
        "untrained": untrained, "final": final | {"rho_spectrum@-1": 0.123}, "seconds": 5000, "seconds_per_epoch": 12.5,
        "best": {"e_recall@1": {"epoch": 7, "value": 0.75, "chosen_on": "val", "metrics": best}}, "steps": 400,
        "held_out_advantage_over_uniform": {"mean": 0.0125, "standard_error": None, "batches": 3},
        "peak_memory_mib": 321.5}))
    write_csv(folder / "metrics.csv", [{"epoch": n, "step": 10 * n, "e_recall@1": n / 10, "val_e_recall@1": n / 20,
                                        "loss": 2 / (n + 1), "e_recall@1_low": n / 11, "e_recall@1_high": n / 9,
                                        "held_out_advantage": n / 50, "held_out_advantage_error": 0.01}
                                       for n in range(9)])
    write_csv(folder / "steps.csv", [{"epoch": 1, "step": n, "loss": 1 / n, "memory_nll": 2 / n, "lr_new": 1e-3,
                                      "images_per_second": 50, "reward": 0.5, "expected_positive": 2,
                                      "advantage_over_uniform": 0.1,
                                      "held_out_advantage": 0.0, "correlation_negative": -0.4} for n in range(1, 30)])
    write_csv(folder / "confusions.csv", [{"name": f"{EVIL}{n}", "taken_for": "b", "count": 9, "queries": 12,
                                           "share": 0.75} for n in range(3 * ROWS)])
    write_csv(folder / "per_class.csv", [{"class": f"{EVIL}{n}", "images": 12, "e_recall@1": n / 100}
                                           for n in range(40)])
    noise(folder / "gallery.png", 60, 80)
    noise(folder / "embedding.png", 40, 30)
    noise(folder / "policy.png", 40, 30)
    return folder


def made(folder):
    return Reader(report(read_run(folder)))


def test_the_page_has_every_part_and_its_numbers(run):
    page = made(run)
    assert page.headings == ["Metrics", "Metrics over the training", "Training", "Policy", "Retrieval",
                             "Map of the test images", "What the policy chose", "Classes", "Flags", "Origin"]
    text = page.text
    for cell in ("75.0 [70.0, 80.0]", "1.0", "60.0", "0.123", "best e_recall@1 (epoch 7, by val)", "--lr", "0.5",
                 "1 h 23 min", "12.5 s", "321.5", "9 of 12", "abc123 and uncommitted changes", "memory_nll"):
        assert any(cell in part for part in text), cell
    assert text[text.index("--lr") + 1] == "0.5"
    assert text.index("--lr") < text.index("--bs")                                 # chosen ones before defaults
    assert "--loss_margin_nu" not in text                                          # without effect here
    assert any("classes held out" in part for part in text) and any("Correlation of an image" in part for part in text)
    assert not any("held_out" in part for part in text[text.index("Training"):text.index("Policy")])
    assert any("+0.0125" in part for part in text) and any("untrained 1.0 · best 75.0" in part for part in text)


def test_the_advantage_on_held_out_classes_has_its_standard_error(run):
    line = _held_out(read_run(run))
    assert line.x.tolist() == [10 * n for n in range(9)] and line.y.tolist() == [n / 50 for n in range(9)]
    assert (line.high - line.y).tolist() == pytest.approx([0.01] * 9)
    assert (line.y - line.low).tolist() == pytest.approx([0.01] * 9)


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(run):
    page = made(run)
    assert not {"script", "link", "iframe", "object", "base", "form", "a"} & set(page.tags)
    for tag, attributes in page.attributes:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset", "action",
                                                                                     "style")]
        if tag == "img":
            assert attributes["src"].startswith("data:image/")
    text = report(read_run(run))
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text and "unsafe" not in text


def test_it_leads_to_the_explorer_where_there_is_one(run):
    (run / EXPLORER).touch()
    page = made(run)
    assert [attributes for tag, attributes in page.attributes if tag == "a"] == [{"href": "explorer.html"}]


def test_names_of_unknown_origin_stay_text(run):
    page = made(run)
    assert page.tags.count("script") == 0 and any("<script>alert(1)</script>" in part for part in page.text)
    text = report(read_run(run))
    assert "\x1b" not in text and "\x00" not in text
    assert clean("a\x00b\ud800\n") == "a\ufffdb\ufffd\n"
    long = json.loads((run / "options.json").read_text())
    long["flags"]["savename"] = "x" * 10**6
    (run / "options.json").write_text(json.dumps(long))
    assert "x" * LONGEST not in report(read_run(run))


def test_every_picture_has_words_and_every_table_headers(run):
    page = made(run)
    images = [attributes for tag, attributes in page.attributes if tag == "img"]
    assert len(images) == 3 and all(len(image["alt"]) > 20 for image in images)
    drawings = [attributes for tag, attributes in page.attributes if tag == "svg"]
    assert drawings and all(d["role"] == "img" and len(d["aria-label"]) > 20 for d in drawings)
    assert page.tags.count("caption") == page.tags.count("table") == 6
    scopes = [attributes.get("scope") for tag, attributes in page.attributes if tag == "th"]
    assert set(scopes) == {"row", "col"}


def test_the_page_stays_below_its_limit(run):
    for number, name in enumerate(("gallery.png", "embedding.png", "policy.png")):
        noise(run / name, 1700, 2000, number)                                      # the worst that JPEG can meet
    write_csv(run / "steps.csv", [{"epoch": 1, "step": n, "loss": 1 / n, "memory_nll": 2 / n} for n in
                                  range(1, 20_000)])
    assert len(report(read_run(run)).encode()) < 3_000_000


def test_large_pictures_become_smaller_jpegs_and_small_ones_stay(run):
    def decoded(path):
        kind, content = re.fullmatch(r"data:image/(\w+);base64,(.*)", picture(path, "a", PICTURE_LIMIT).get("src")
                                     ).groups()
        return kind, base64.b64decode(content)
    noise(run / "gallery.png", 1800, 2400)
    kind, content = decoded(run / "embedding.png")
    assert kind == "png" and content == (run / "embedding.png").read_bytes()
    kind, content = decoded(run / "gallery.png")
    assert kind == "jpeg" and len(content) <= PICTURE_LIMIT
    shape = picture(run / "gallery.png", "a", PICTURE_LIMIT)
    assert Image.open(io.BytesIO(content)).size == (int(shape.get("width")), int(shape.get("height")))
    clear = Image.new("RGBA", (2000, 2000), (0, 0, 0, 0))                          # transparent is white, not black
    clear.save(run / "clear.png", compress_level=0)
    _, content = decoded(run / "clear.png")
    assert Image.open(io.BytesIO(content)).getpixel((5, 5)) == (255, 255, 255)


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(run):
    for name in ("result.json", "gallery.png", "confusions.csv", "per_class.csv"):
        (run / name).unlink()
    (run / "steps.csv").write_text((run / "steps.csv").read_text()[:-7])           # its last line is being written
    page = made(run)
    assert any("has not finished" in part for part in page.text)
    assert "Retrieval" not in page.headings and "Classes" not in page.headings
    columns = scores(read_run(run))
    assert columns["epoch 8"]["e_recall@1"] == 0.8 and columns["untrained"]["e_recall@1"] == 0.0
    assert columns["validation classes, last"] == {"e_recall@1": 0.4}


@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "steps.csv", "confusions.csv", "per_class.csv",
                                  "gallery.png", "policy.png"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\x00", b"[1, 2]", b'{"final": 3, "best": [1]}',
                                     b'{"final": {"nmi": "x"}, "best": {"a": 1, "b": {"metrics": {"nmi": []}}}}',
                                     b'{"final": {"nmi": NaN}, "seconds": NaN, "untrained": {"nmi": 1e999}}',
                                     b"a,b\n1\n,,,\n", b"\x89PNG\r\n\x1a\n0000"])
def test_damaged_files_are_left_out(run, name, content):
    (run / name).write_bytes(content)
    made(run)


def test_options_of_another_version_are_shown_without_order(run):
    (run / "options.json").write_text(json.dumps({"flags": {"loss": 3, "recipe": "x", "lr": None}, "versions": "x"}))
    assert "--recipe" in made(run).text


def test_the_command_writes_the_page_and_refuses_other_folders(run, tmp_path, capsys):
    assert main([str(run)]) == 0 and (run / REPORT).read_text().startswith("<!DOCTYPE html>")
    assert capsys.readouterr().out.strip() == str(run / REPORT)
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is not the folder of a run" in error and error.count("\n") == 1


def test_elements_take_texts_between_their_children():
    made = element("p", "a", element("b", "<"), "c", None, "d", class_="x", aria_label='"')
    assert (made.text, made[0].text, made[0].tail) == ("a", "<", "cd")
    assert made.attrib == {"class": "x", "aria-label": '"'}
