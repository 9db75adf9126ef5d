"""What is opened as an image, and what not, whatever its name says."""
import os
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
from PIL import Image, features

from datasets import formats
from datasets.decode import NOTED, ImageError, decode, decode_for
from datasets.preprocess import least_factor
from evaluation.report.image_data import image_data
from tests.datasets.pictures import save_jpeg, smooth, textured
from tests.datasets.test_decode import whole

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
%%EndComments
0 0 20 20 rectfill showpage
"""
GREY = np.linspace(0, 255, 64 * 64).reshape(64, 64)


@pytest.fixture(autouse=True)
def nothing_noted():
    NOTED.clear()


@pytest.mark.parametrize("content", [POSTSCRIPT, b"%PDF-1.4\n"], ids=["EPS", "PDF"])
def test_what_pillow_gives_to_programs_is_refused(tmp_path, monkeypatch, content):
    def started(*_, **__):
        raise AssertionError("a program was started")
    monkeypatch.setattr(subprocess, "check_call", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged, or none of JPEG"):
        decode(path)
    with pytest.raises(ImageError, match="damaged, or none of JPEG"):
        decode_for(path, whole)
    assert image_data(path, 10**6) is None


@pytest.mark.parametrize("make", [
    os.mkfifo,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.mkdir(),
], ids=["pipe", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path, make):
    path = tmp_path / "a.jpg"
    make(path)
    for read in (decode, lambda path: decode_for(path, whole)):
        with pytest.raises(ImageError, match="pipe, a device or a folder"):
            read(path)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read(tmp_path):
    picture = smooth(40, 60)
    path = tmp_path / "a.avif"
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path, quality=95)
    assert ".avif" in formats.suffixes()
    assert (decode(path).float() - picture.float()).abs().mean() < 3


def test_heic_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats.readable.cache_clear()
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    assert ".heic" not in formats.suffixes.__wrapped__()
    with pytest.raises(ImageError, match="pillow-heif"):
        decode(path)
    formats.readable.cache_clear()


def test_heic_is_read_where_the_package_is(monkeypatch):
    calls = []
    package = types.SimpleNamespace(register_heif_opener=lambda: calls.append(1))
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    assert {".heic", ".heif"} <= set(formats.readable.__wrapped__()["HEIF"])
    assert calls == [1]


def test_a_photograph_beyond_pillows_limit_is_decoded_smaller(tmp_path, monkeypatch):
    path = save_jpeg(tmp_path / "a.jpg", smooth(400, 600))
    turned = save_jpeg(tmp_path / "b.jpg", smooth(400, 600), "CMYK")
    expected = decode(path)[:, 2::4, 2::4].float()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400 * 600 // 10)
    pixels = decode(path)
    assert pixels.shape == (3, 100, 150)
    assert (pixels.float() - expected).abs().mean() < 2
    found = decode_for(path, whole)
    assert found.span == (400, 600) and found.pixels.shape == (3, 100, 150)
    assert decode(turned).shape == (3, 100, 150)


@pytest.mark.parametrize("pixels, by", [
    (1, 1), (89_478_485, 1), (89_478_486, 2), (200_000_000, 2), (400_000_000, 4), (2**31, 8)])
def test_scale_of_large_photographs(pixels, by):
    assert least_factor(pixels, 1) == by


def test_a_jpeg_may_not_have_any_number_of_pixels(tmp_path, monkeypatch):
    path = save_jpeg(tmp_path / "a.jpg", textured(40, 50))
    monkeypatch.setattr(formats, "LARGEST", 1999)
    with pytest.raises(ImageError, match="50 x 40 pixels are too many"):
        decode(path)


def test_another_file_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(textured(40, 50).permute(1, 2, 0).numpy()).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with warnings.catch_warnings(), pytest.raises(ImageError, match="decompression bomb"):
        decode(path)


# ------------------------------------------------------------------------------------ greys


def greys(path, values):
    Image.fromarray(values).save(path)
    return decode(path)[0].numpy().astype(int)


@pytest.mark.parametrize("values, name", [
    (GREY.astype(np.int32), "a.tif"),
    ((GREY * 16).astype(np.int32), "a.tif"),
    ((GREY * 257).astype(np.int32), "a.tif"),
    ((GREY * 257).astype(np.uint16), "a.tif"),
    ((GREY * 257).astype(np.uint16), "a.png"),
    ((GREY / 255).astype(np.float32), "a.tif"),
    (GREY.astype(np.float32), "a.tif"),
    ((GREY * 4095 / 255).astype(np.float32), "a.tif"),
    ((GREY * 257).astype(np.float32), "a.tif"),
    ((GREY * 1e6).astype(np.float32), "a.tif"),
])
def test_greys_of_many_bits_have_their_right_scale(tmp_path, values, name, capsys):
    assert np.abs(greys(tmp_path / name, values) - GREY).max() <= 1.5
    assert capsys.readouterr().out == ""


def test_floats_that_are_no_numbers_do_not_decide_the_scale(tmp_path):
    values = np.array([[0, 100, np.inf, np.nan, -np.inf, 200]], np.float32)
    assert greys(tmp_path / "a.tif", values).tolist() == [[0, 100, 255, 0, 0, 200]]


def test_an_image_that_becomes_nearly_black_is_named_once(tmp_path, capsys):
    dark = (GREY * 16).astype(np.uint16)
    for name in ("a.png", "b.png"):
        greys(tmp_path / name, dark)
    said = capsys.readouterr().out
    assert said.startswith(f"note: {tmp_path / 'a.png'}: this image is nearly black")
    assert said.count("note") == 1


def test_an_image_that_becomes_nearly_white_is_named(tmp_path, capsys):
    greys(tmp_path / "a.png", np.full((4, 4), 65000, np.uint16))
    assert "nearly white" in capsys.readouterr().out
