"""preprocess.py of an export against the program's own reading of the same files."""
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image

from architectures import export
from datasets.crops import CentreCrop
from datasets.decode import decode_for
from datasets.preprocess import prepare
from datasets.transforms import Normalise
from tests.architectures.test_export import make

SETTINGS = {"resize": 36, "crop": 32, "channels": "RGB", "value_range": 1.0,
            "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}


def scene(width=90, height=61, channels=3):
    """Smooth colours that differ in every corner, with one bright block."""
    x = np.linspace(0, 1, width)[None, :, None]
    y = np.linspace(0, 1, height)[:, None, None]
    c = np.arange(1, channels + 1)
    values = 127 + 110 * np.sin(3 * x * c + 5 * y / c + c)
    values[5:20, 8:30] = 250
    return values.astype(np.uint8)


def turned(folder, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = folder / "turned.jpg"
    Image.fromarray(scene()).save(path, exif=exif, quality=95)
    return path


def turned_tiff(folder, mode):
    """Not compressed, so that Pillow may map the file."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return saved(Image.fromarray(scene()).convert(mode), folder / "t.tif", exif=exif)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def see_through(folder):
    return saved(Image.fromarray(scene(channels=4), "RGBA"), folder / "a.png")


def palette(folder):
    image = Image.fromarray(scene()).quantize(30)
    return saved(image, folder / "p.png", transparency=3)


def deep(folder):
    grey = scene()[:, :, 0].astype(np.uint16) * 257
    return saved(Image.fromarray(grey), folder / "g.png")


def floats(folder):
    return saved(Image.fromarray(scene()[:, :, 0].astype(np.float32) / 255), folder / "f.tif")


FILES = {
    "orientation 2": lambda folder: turned(folder, 2),
    "orientation 3": lambda folder: turned(folder, 3),
    "orientation 6": lambda folder: turned(folder, 6),
    "orientation 8": lambda folder: turned(folder, 8),
    "upright": lambda folder: turned(folder, 1),
    "a TIFF": lambda folder: turned_tiff(folder, "RGB"),
    "a grey TIFF": lambda folder: turned_tiff(folder, "L"),
    "a TIFF with alpha": lambda folder: turned_tiff(folder, "RGBA"),
    "large JPEG": lambda folder: saved(Image.fromarray(scene(700, 500)), folder / "l.jpg"),
    "grey JPEG": lambda folder: saved(Image.fromarray(scene()[:, :, 1]), folder / "g.jpg"),
    "RGBA": see_through,
    "grey with alpha": lambda folder: saved(Image.open(see_through(folder)).convert("LA"),
                                            folder / "la.png"),
    "palette": palette,
    "CMYK": lambda folder: saved(Image.fromarray(scene()).convert("CMYK"), folder / "c.jpg"),
    "16 bits": deep,
    "floats": floats,
    "one bit": lambda folder: saved(Image.fromarray(scene()[:, :, 0] > 127), folder / "b.png"),
    # what is left of it has other proportions than the file
    "uneven JPEG": lambda folder: saved(Image.fromarray(scene(701, 503)), folder / "u.jpg"),
    "several pictures": lambda folder: saved(
        Image.fromarray(scene(701, 503)), folder / "m.jpg", format="MPO", save_all=True,
        append_images=[Image.fromarray(scene(70, 50))]),
    "one pixel": lambda folder: saved(Image.fromarray(scene()[:1, :1]), folder / "1.png"),
    "very wide": lambda folder: saved(Image.fromarray(scene(400, 3)), folder / "w.png"),
}


def own(path, settings):
    """The input as the data set and the network make it, (1, 3, H, W)."""
    plan = CentreCrop(settings["crop"], settings["resize"])
    pixels, size, crop = decode_for(path, plan)
    names = ("mean", "std", "channels", "value_range")
    normalise = Normalise(**{name: settings[name] for name in names})
    return normalise(crop.cut(pixels, size))[None]


@pytest.mark.parametrize("resize, crop", [(36, 32), (256, 224), (32, 32)])
@pytest.mark.parametrize("file", FILES)
def test_the_input_is_that_of_the_program(tmp_path, file, resize, crop):
    path = FILES[file](tmp_path)
    settings = SETTINGS | {"resize": resize, "crop": crop}
    found = prepare(path, settings)
    expected = own(path, settings).numpy()
    assert found.shape == expected.shape == (1, 3, crop, crop) and found.dtype == np.float32
    # not one value of 255 is rounded otherwise
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_above_pillows_limit_is_scaled_down(tmp_path, monkeypatch, orientation):
    path = tmp_path / "l.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(scene(401, 303)).save(path, exif=exif)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    settings = SETTINGS | {"resize": 256, "crop": 224}
    np.testing.assert_allclose(prepare(path, settings), own(path, settings), rtol=0, atol=1e-5)


def test_channels_and_range_are_those_of_the_settings(tmp_path):
    path = see_through(tmp_path)
    settings = SETTINGS | {"channels": "BGR", "value_range": 255.0, "mean": [100.0, 110.0, 120.0],
                           "std": [1.0, 1.0, 1.0]}
    expected = own(path, settings).numpy()
    np.testing.assert_allclose(prepare(path, settings), expected, rtol=0, atol=1e-4)


def test_an_export_prepares_without_this_program(tmp_path):
    checkpoint = make(tmp_path)
    assert export.main([str(checkpoint), "--format", "safetensors"]) == 0
    out = tmp_path / "last-safetensors"
    path = see_through(tmp_path)
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import numpy; "
            "from preprocess import prepare; numpy.save(sys.argv[3], prepare(sys.argv[2])); "
            "assert 'torch' not in sys.modules")
    words = [sys.executable, "-I", "-c", code, str(out), str(path), str(tmp_path / "x.npy")]
    subprocess.run(words, check=True, cwd=tmp_path)
    _, content = export.load_export(out)
    expected = own(path, content["preprocessing"]).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), expected, rtol=0, atol=1e-5)
