"""The embedded set: deterministic, made whole or not at all, no two classes alike, far from
solved by raw pixels.
"""
import csv
import hashlib
import json
import re
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from datasets import select
from datasets.glyph_characters import (
    ALIKE,
    SCRIPTS,
    Character,
    candidates,
    class_name,
    distinct,
    font_files,
)
from datasets.glyphs import divided, glyphs
from utilities.errors import RunError, UsageError

SMALL = {"classes": 24, "images_per_class": 6}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder with the small set of seed 0."""
    folder = tmp_path_factory.mktemp("cache")
    glyphs(folder, **SMALL)
    return folder


def digest(folder):
    """The names and bytes of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in files
    }


def test_counts_labels_and_disjoint_classes(cache):
    train, val, test, _ = select("glyphs", cache, **SMALL)
    assert val is None and len(train.class_names) == len(test.class_names) == 12
    assert not set(train.class_names) & set(test.class_names)
    for images in (train, test):
        assert sorted(set(images.labels)) == list(range(12)) and len(images.paths) == 12 * 6
        for path, label in zip(images.paths, images.labels):
            name = images.class_names[label]
            assert path.parent.name == name and re.fullmatch(r"[A-Z_]+\.[a-z0-9_]+", name)
            assert images.super_names[images.super_labels[label]] == name.split(".")[0]
            with Image.open(path) as image:
                assert image.size == (32, 32) and image.mode == "RGB"


def test_same_bytes_from_the_same_seed(cache, tmp_path):
    glyphs(tmp_path, **SMALL)
    assert digest(tmp_path) == digest(cache) and len(digest(tmp_path)) == 24 * 6 + 2


def test_other_arguments_are_other_sets(cache, tmp_path):
    made = [glyphs(tmp_path, **{**SMALL, "classes": 4, "images_per_class": 2, **other})
            for other in ({}, {"seed": 1}, {"size": 16}, {"images_per_class": 3})]
    assert len(list(tmp_path.iterdir())) == 4
    first, reseeded, smaller, more = (digest(splits.train.paths[0].parents[2]) for splits in made)
    assert not set(first.values()) & set(reseeded.values())
    assert {k: v for k, v in more.items() if k.endswith(("000.png", "001.png"))} == {
        # an image depends on its class and number alone
        k: v for k, v in first.items() if k.endswith(".png")}
    assert set(smaller) == set(first)


def test_seed_draws_the_same_characters_otherwise(tmp_path, monkeypatch):
    pool = candidates(font_files(), seed=0)[:40]
    monkeypatch.setattr("datasets.glyphs.candidates", lambda fonts, seed: pool)
    one, two = (
        digest(glyphs(tmp_path, classes=4, images_per_class=2, seed=seed).train.paths[0].parents[2])
        for seed in (0, 1)
    )
    pictures = {name for name in one if name.endswith(".png")}
    assert len(pictures) == 8 and pictures <= set(two)
    assert not {one[name] for name in pictures} & {two[name] for name in pictures}


def test_second_use_reads_what_is_there(cache, monkeypatch):
    monkeypatch.setattr("datasets.glyphs._draw_all", lambda *_: pytest.fail("drawn again"))
    assert len(glyphs(cache, **SMALL).train.paths) == 72


def test_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    calls = iter(range(3))

    def draw(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return Image.new("RGB", (32, 32))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("datasets.glyphs.draw", draw)
        glyphs(tmp_path, classes=4, images_per_class=2)
    assert list(tmp_path.iterdir()) == []
    assert len(glyphs(tmp_path, classes=4, images_per_class=2).train.paths) == 4


def test_what_a_killed_process_left_is_removed(tmp_path):
    [folder] = {path.parents[2] for path in glyphs(tmp_path, classes=4, images_per_class=2).train.paths}
    whole = digest(folder)
    folder.rename(tmp_path / f"{folder.name}.part")
    (tmp_path / f"{folder.name}.part" / "more").touch()
    glyphs(tmp_path, classes=4, images_per_class=2)
    assert digest(folder) == whole and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("damage", ["image", "table", "rows", "all"])
def test_half_made_set_is_made_again(tmp_path, damage):
    asked = {"classes": 4, "images_per_class": 2}
    folder = glyphs(tmp_path, **asked).train.paths[0].parents[2]
    whole = digest(folder)
    table = folder / "labels.csv"
    if damage == "image":
        next((folder / "images").rglob("001.png")).unlink()
    elif damage == "table":
        table.unlink()
    elif damage == "rows":
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    glyphs(tmp_path, **asked)
    assert digest(folder) == whole and list(tmp_path.iterdir()) == [folder]


def test_no_permission_is_a_run_error(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("datasets.glyphs._draw_all", denied)
    with pytest.raises(RunError, match="cannot be written there .Permission denied.*--source_path"):
        glyphs(tmp_path, **SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--source_path"):
        glyphs(tmp_path / "file", **SMALL)


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"classes": 3}, "--glyphs_classes 3"),
        ({"images_per_class": 1}, "--glyphs_images_per_class 1"),
        ({"size": 4}, "4 pixels"),
        ({"seed": -1}, "--glyphs_seed -1"),
        ({"classes": 10**4}, "hold only [0-9]+ characters"),
    ],
)
def test_refused(tmp_path, asked, said, monkeypatch):
    monkeypatch.setattr(
        "datasets.glyphs.candidates", lambda fonts, seed: candidates(fonts, seed)[:9]
    )
    with pytest.raises(UsageError, match=said):
        glyphs(tmp_path, **asked)
    assert not list(tmp_path.iterdir())


def shape(text, font):
    """The character's ink stretched to 24 x 24, softened by a mean over 3 x 3, as a standardised
    vector.
    """
    image = Image.new("L", (200, 200))
    ImageDraw.Draw(image).text((70, 70), text, fill=255, font=font)
    image = image.crop(image.getbbox()).resize((24, 24), Image.Resampling.BOX)
    padded = np.pad(np.asarray(image, float), 1, mode="edge")
    soft = np.array(
        [[padded[y : y + 3, x : x + 3].mean() for x in range(24)] for y in range(24)]
    ).ravel()
    return (soft - soft.mean()) / (soft.std() * 24)


def test_no_two_classes_look_alike():
    fonts = font_files()
    chosen = distinct(candidates(fonts, seed=0), 60)
    assert len(chosen) == 60
    for file in fonts[:2]:
        font = ImageFont.truetype(str(file), 48, layout_engine=ImageFont.Layout.BASIC)
        shapes = {one.name: shape(chr(one.code), font) for one in chosen if file in one.fonts}
        assert len(shapes) > 20
        for one in shapes:
            for two in shapes:
                assert one == two or shapes[one] @ shapes[two] < ALIKE + 0.02, (one, two)


def test_letters_of_one_shape_are_one_class():
    fonts = [file for file in font_files() if file.stem == "DejaVuSans"]
    pool = [
        Character(ord(text), "X", f"X.{number}", fonts)
        for number, text in enumerate("A\u0391\u0410XxSs\u0405")
    ]
    assert [chr(one.code) for one in distinct(pool, 9)] == ["A", "X", "S"]


def test_candidates_are_letters_that_the_fonts_have():
    from fontTools.ttLib import TTFont
    pool = candidates(font_files(), seed=0)
    assert {one.script for one in pool} == set(SCRIPTS) and len(pool) > 1000
    assert len({one.code for one in pool}) == len(pool)
    for one in pool[:100]:
        assert unicodedata.category(chr(one.code))[0] in "LSN" and not unicodedata.decomposition(
            chr(one.code)
        )
        assert all(one.code in TTFont(file, lazy=True).getBestCmap() for file in one.fonts[:1])


def test_names():
    assert class_name(0x3C9, "GREEK") == "GREEK.omega_small"
    assert class_name(0x5D0, "HEBREW") == "HEBREW.alef"
    assert class_name(0x41, "LATIN") == "LATIN.a_capital"


def test_every_script_is_in_both_halves():
    pool = candidates(font_files(), seed=0)[:120]
    split = divided(pool, seed=0)
    assert {one.code for one, _ in split} == {one.code for one in pool}
    for script in SCRIPTS:
        of = [part for one, part in split if one.script == script]
        assert abs(of.count("train") - of.count("test")) <= 1
    assert divided(pool, seed=0) == split != divided(pool, seed=1)


def test_raw_pixels_are_far_from_solving_it(cache):
    test = glyphs(cache, **SMALL).test
    pixels = np.stack([np.asarray(Image.open(path), float).ravel() for path in test.paths])
    right = 0
    for query in range(len(pixels)):
        score = [
            -1 if other == query else pixels[query] @ pixels[other] / np.linalg.norm(pixels[other])
            for other in range(len(pixels))
        ]
        right += test.labels[int(np.argmax(score))] == test.labels[query]
    assert right / len(pixels) < 0.35


def test_ink_stands_out_from_the_ground(cache):
    """Along the brightness axis every picture has two levels apart, whichever of them is the
    ink.
    """
    test = glyphs(cache, **SMALL).test
    spread = [
        np.ptp(np.percentile(np.asarray(Image.open(path).convert("L"), float), [2, 98]))
        for path in test.paths
    ]
    brighter_ground = [
        np.asarray(Image.open(path).convert("L"), float)[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
        > 127
        for path in test.paths
    ]
    assert min(spread) > 40
    assert 0.2 < np.mean(brighter_ground) < 0.8


def test_table_and_record(cache):
    folder = next(cache.iterdir())
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "super_label", "split"] and len(rows) == 144
    assert json.loads((folder / "glyphs.json").read_text())["classes"] == 24
