"""The fast way of decoding against the plain one, by both libraries: equal pixels at full size,
near ones reduced, and what falls back.
"""
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import decode as module
from datasets.crops import CentreCrop, Crop, RandomResizedCrop
from datasets.decode import ImageError, decode, decode_for, read_jpeg
from tests.datasets.pictures import save_jpeg, smooth, textured


def whole(height, width):
    """A plan for all pixels as they are."""
    return Crop((0, 0, height, width), (height, width), (0, 0, height, width))


@pytest.fixture(params=["simplejpeg", "PIL"], autouse=True)
def library(request, monkeypatch):
    """What decodes plain JPEG files: the package, or PIL where it is not installed."""
    if request.param == "PIL":
        monkeypatch.setattr(module, "_simplejpeg", lambda: None)
    else:
        pytest.importorskip("simplejpeg")
    return request.param


@pytest.fixture
def reductions(monkeypatch):
    """The factors by which JPEG files were decoded on the fast path."""
    seen = []
    fast = module._decode_jpeg
    monkeypatch.setattr(module, "_decode_jpeg", lambda *args: seen.append(args[2]) or fast(*args))
    return seen


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}]
)
@pytest.mark.parametrize("size", [(97, 130), (16, 16), (1, 9)])
def test_full_size_equals_the_plain_way(tmp_path, reductions, mode, options, size):
    path = save_jpeg(tmp_path / "a.jpg", textured(*size), mode, **options)
    pixels, found, _ = decode_for(path, whole)
    assert found == size and reductions == [1] and torch.equal(pixels, decode(path))
    assert mode == "RGB" or (pixels == pixels[:1]).all()


def test_what_is_not_installed_is_not_used(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    monkeypatch.setattr(module, "_simplejpeg", module._simplejpeg.__wrapped__)
    assert module._simplejpeg() is None
    path = save_jpeg(tmp_path / "a.jpg", textured(60, 80))
    assert torch.equal(decode_for(path, whole).pixels, decode(path))


@pytest.mark.parametrize("name,tolerance", [("smooth", 1.0), ("textured", 3.0)])
@pytest.mark.parametrize("plan", [RandomResizedCrop(64, scale=(0.3, 1.0)), CentreCrop(64, 73)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_reduced_crops_are_near_the_plain_ones(tmp_path, reductions, name, tolerance, plan, mode):
    size = (403, 601)
    path = save_jpeg(
        tmp_path / "a.jpg", {"smooth": smooth, "textured": textured}[name](*size), mode
    )
    for seed in range(10):
        torch.manual_seed(seed)
        pixels, span, crop = decode_for(path, plan)
        assert span == tuple(-(-side // reductions[-1]) * reductions[-1] for side in size)
        difference = (
            (crop.cut(pixels, span).float() - crop.cut(decode(path), size).float()).abs().mean()
        )
        assert difference < tolerance
    assert max(reductions) >= 2


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("size", [(403, 601), (15, 17), (8, 500)])
def test_sides_are_divided_and_rounded_up(tmp_path, reduction, size):
    path = save_jpeg(tmp_path / "a.jpg", textured(*size))
    jpeg = read_jpeg(path)
    pixels, by = module._decode_jpeg(jpeg, path, reduction)
    assert by == reduction and pixels.shape == (3, -(-size[0] // reduction), -(-size[1] // reduction))
    assert min(size) < 2 * reduction or torch.equal(pixels, module._by_pil(jpeg, reduction))


@pytest.mark.parametrize("size", [(289, 289), (289, 385), (577, 297), (290, 401)])
def test_sides_that_the_factor_does_not_divide_are_not_stretched(tmp_path, reductions, size):
    """The last row and column of a JPEG scaled down by 8 stand for as little as one pixel."""
    path = save_jpeg(tmp_path / "a.jpg", textured(*size))
    pixels, span, crop = decode_for(path, CentreCrop(32, 36))
    assert reductions == [8]
    plain = crop.cut(decode(path), size).float()
    assert (crop.cut(pixels, span).float() - plain).abs().mean() < 2
    # as if the pixels covered just the file
    assert (crop.cut(pixels, size).float() - plain).abs().mean() > 4


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize(
    "save",
    [
        lambda path, image: save_jpeg(path, image, exif=orientation(6)),
        lambda path, image: save_jpeg(path, image, "CMYK"),
        lambda path, image: Image.fromarray(image.permute(1, 2, 0).numpy()).save(
            path, format="PNG"
        ),
        lambda path, image: (
            Image.fromarray(image.permute(1, 2, 0).numpy()).quantize(32).save(path, format="GIF")
        ),
    ],
    ids=["turned", "cmyk", "png named jpg", "gif named jpg"],
)
def test_other_files_go_the_plain_way(tmp_path, reductions, save):
    path = tmp_path / "a.jpg"
    save(path, textured(300, 400))
    pixels, size, crop = decode_for(path, CentreCrop(32, 36))
    expected = decode(path)
    assert reductions == [] and torch.equal(pixels, expected) and size == tuple(expected.shape[1:])
    assert size == (
        (400, 300) if expected.shape[1] > expected.shape[2] else (300, 400)
    ) and crop == CentreCrop(32, 36)(*size)


def test_upright_exif_stays_on_the_fast_path(tmp_path, reductions):
    path = save_jpeg(tmp_path / "a.jpg", textured(300, 400), exif=orientation(1))
    decode_for(path, CentreCrop(32, 36))
    assert reductions == [8]


@pytest.mark.parametrize("plan", [whole, CentreCrop(32, 36)], ids=["full", "reduced"])
@pytest.mark.parametrize("keep", [0, 2, 40, 700, -2000])
def test_truncated_files_are_named(tmp_path, plan, keep):
    path = save_jpeg(tmp_path / "a.jpg", textured(300, 400))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageError) as caught:
        decode_for(path, plan)
    assert str(caught.value).startswith(f"{path}: this image cannot be "
                                        "decoded") and "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match="gone"):
        decode_for(tmp_path / "a.jpg", whole)


def test_random_bytes_behind_a_jpegs_beginning(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff" + np.random.default_rng(0).bytes(5000))
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_for(path, whole)


def xmp(value):
    """An APP1 segment of XMP with this orientation."""
    text = b"http://ns.adobe.com/xap/1.0/\0" + f'<x:xmpmeta tiff:Orientation="{value}"/>'.encode()
    return b"\xff\xe1" + (len(text) + 2).to_bytes(2, "big") + text


@pytest.mark.parametrize("value", [1, 3, 8])
def test_orientation_in_xmp_counts_too(tmp_path, reductions, value):
    path = save_jpeg(tmp_path / "a.jpg", textured(300, 400))
    data = path.read_bytes()
    path.write_bytes(data[:2] + xmp(value) + data[2:])
    pixels, _, _ = decode_for(path, whole)
    assert torch.equal(pixels, decode(path)) and bool(reductions) == (value == 1)


def outcome(function, *args):
    """The pixels that a function gives, or the kind of its error."""
    try:
        return function(*args)
    except ImageError as error:
        return type(error)


# PIL's, of damaged EXIF blocks
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(
    st.data(),
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.booleans(),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([None, 1, 2, 6]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_bytes_the_outcome_is_that_of_the_plain_way(
    tmp_path_factory, data, mode, progressive, sampling, turned
):
    """Bytes of a good file are changed, left out, or none of it."""
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    path = tmp_path_factory.mktemp("jpeg") / "a.jpg"
    options = {} if turned is None else {"exif": orientation(turned)}
    save_jpeg(path, textured(*size), mode, progressive=progressive, subsampling=sampling, **options)
    content = bytearray(path.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(2, len(content) - 1), st.integers(0, 255)), max_size=3)
    ):
        content[place] = value
    path.write_bytes(
        content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    )
    plain = outcome(decode, path)
    fast = outcome(lambda: decode_for(path, whole).pixels)
    assert torch.equal(fast, plain) if isinstance(plain, torch.Tensor) else fast is plain
