"""One row for one image, by whichever way: embed, Searcher, and exports with their preprocess.py."""
import importlib.util
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from architectures import export, onnx
from evaluation.embed.command import main as embed
from evaluation.search import Searcher
from tests.architectures.test_export import needs_onnx
from tests.evaluation.test_search import save_network
from utilities.table import read_rows

TOLERANCE = 1e-4
# of the input; above 64 pixels the margin is cut off
SIDE = 72
ORIENTATIONS = range(1, 9)
ARCHITECTURES = ["convnet_normalize", "resnet18_normalize", "timm.test_efficientnet_normalize"]


def scene(seed, height=211, width=300):
    """Coarse and fine detail, (H, W, 3), another for each seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(256, size=(4, 5, 3), dtype=np.uint8))
    coarse = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=int)
    fine = random.integers(-40, 41, size=coarse.shape)
    return (coarse + fine).clip(0, 255).astype(np.uint8)


def turned(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def with_alpha(mode, seed):
    image = Image.fromarray(scene(seed)).convert(mode)
    image.putalpha(Image.fromarray(scene(seed + 1)[:, :, 0]))
    return image


def deep(seed):
    """Greys of 16 bits."""
    grey = scene(seed)[:, :, 0].astype(np.uint16)
    return Image.fromarray(grey * 256 + scene(seed + 1)[:, :, 0])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    plain = Image.fromarray(scene(0))
    for orientation in ORIENTATIONS:
        turned_one = Image.fromarray(scene(orientation))
        turned_one.save(folder / f"turned{orientation}.jpg", exif=turned(orientation))
    plain.save(folder / "turned.png", exif=turned(6))
    with_alpha("RGB", 20).save(folder / "rgba.png")
    with_alpha("L", 30).save(folder / "la.png")
    Image.fromarray(scene(40)).quantize(30).save(folder / "palette.png", transparency=3)
    deep(50).save(folder / "deep.png")
    deep(60).save(folder / "deep.tiff")
    Image.fromarray(scene(70)[:, :, 0]).save(folder / "grey.png")
    Image.fromarray(scene(80)[:, :, 0]).save(folder / "grey.jpg")
    Image.fromarray(scene(90)).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(scene(100)).convert("1").save(folder / "bits.png")
    # a decoder scales it down, and the rest has uneven sides
    Image.fromarray(scene(110, 701, 503)).save(folder / "large.jpg")
    Image.fromarray(scene(120, 31, 44)).save(folder / "small.png")
    Image.fromarray(scene(130, 7, 400)).save(folder / "wide.png")
    return folder


def embedded(network, images, out):
    """Paths and rows that evaluation.embed writes."""
    assert embed([*map(str, (network, images, "--out", out)), "--device", "cpu", "--metrics"]) == 0
    paths = [images / line["path"] for line in read_rows(out / "labels.csv")]
    return paths, np.load(out / "embeddings.npy")


def preparation(folder):
    """The function `prepare` of the file beside an export."""
    spec = importlib.util.spec_from_file_location("beside", folder / "preprocess.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prepare


@torch.no_grad()
def rows_by_every_way(checkpoint, images):
    """The images' rows (N, D) by each way, under its name."""
    for form in ("onnx", "safetensors"):
        assert export.main([str(checkpoint), "--format", form]) == 0
    folder = checkpoint.parent
    exported = folder / "last-safetensors"
    paths, rows = embedded(checkpoint, images, folder / "rows")
    same_paths, from_export = embedded(exported, images, folder / "rows of the export")
    assert paths == same_paths and len(paths) == 21
    prepare = preparation(folder / "last-onnx")
    inputs = [torch.from_numpy(prepare(path)) for path in paths]
    network, _ = export.load_export(exported)
    by_onnx = [onnx.run_onnx(folder / "last-onnx" / "model.onnx", image) for image in inputs]
    return {
        "embed": rows,
        "embed of safetensors": from_export,
        "Searcher": Searcher(folder / "rows", device="cpu").embed(paths).numpy(),
        "preprocess.py and safetensors": torch.cat([network.embed(x) for x in inputs]).numpy(),
        "preprocess.py and ONNX": np.concatenate(by_onnx),
    }


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_way_gives_the_same_rows(images, tmp_path, arch):
    if arch.startswith("timm"):
        pytest.importorskip("timm")
    save_network(tmp_path / "last.pt", arch=arch, side=SIDE)
    rows = rows_by_every_way(tmp_path / "last.pt", images)
    for (name, one), (other_name, other) in combinations(rows.items(), 2):
        difference = np.abs(one - other).max(1)
        cosine = (one.astype(float) * other).sum(1)
        assert difference.max() < TOLERANCE, f"{name}, {other_name}: {difference}"
        assert cosine.min() > 1 - TOLERANCE, f"{name}, {other_name}: {cosine}"
    # each image has a row of its own, which a mistake of one way would move
    row = rows["embed"]
    similarity = row @ row.T - np.eye(len(row))
    assert similarity.max() < 1 - 10 * TOLERANCE, similarity.max()
