"""evaluation.embed with a library's model: its own features, prepared by its own transform."""
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from torchvision.models import get_model
from torchvision.transforms import v2

import architectures
from evaluation import evaluate
from evaluation.embed import command
from evaluation.search.command import main as search_main
from utilities.table import read_rows

timm = pytest.importorskip("timm")
MODEL = "test_efficientnet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of three noisy images that are no squares."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in "abc":
        (root / name).mkdir()
        for i in range(3):
            pixels = random.integers(256, size=(190 + 9 * i, 240, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def model():
    """The library's own model, whose features are those before the classifier."""
    torch.manual_seed(3)
    return timm.create_model(MODEL, num_classes=0).eval()


@pytest.fixture
def weights(model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    return path


def run(*argv):
    return command.main([*map(str, argv), "--device", "cpu"])


def test_rows_are_the_models_own_features_of_its_own_crop(folder, model, weights, tmp_path):
    out = tmp_path / "out"
    assert run(f"timm.{MODEL}", folder, "--out", out, "--weights", weights) == 0
    settings = timm.data.resolve_data_config(model=model)
    side = settings["input_size"][1]
    assert settings["interpolation"] == "bicubic"
    prepare = v2.Compose([
        v2.Resize(math.floor(side / settings["crop_pct"]), v2.InterpolationMode.BICUBIC, antialias=True),
        v2.CenterCrop(side), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(settings["mean"], settings["std"]),
    ])
    rows = np.load(out / "embeddings.npy")
    for row, line in zip(rows, read_rows(out / "labels.csv")):
        image = v2.functional.pil_to_tensor(Image.open(folder / line["path"]))
        with torch.no_grad():
            expected = normalize(model(prepare(image)[None]))[0]
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_weights_of_an_export_keep_its_crop(folder, weights, tmp_path):
    """Not the library's, whose resizing is bicubic."""
    beside = {"image_size": 48, "resize": 55, "crop": 48, "mean": [0, 0, 0], "std": [1, 1, 1],
              "channels": "RGB", "value_range": 1}
    (tmp_path / "model.json").write_text(json.dumps({"preprocessing": beside}))
    out = tmp_path / "out"
    words = (f"timm.{MODEL}", folder, "--weights", weights, "--metrics")
    assert run(*words, "--out", out) == 0
    geometry = json.loads((out / "embeddings.json").read_text())["preprocessing"]
    assert geometry == {"image_size": 55, "crop_size": 48, "augmentation": "base"}
    assert run(*words, "--out", tmp_path / "sized", "--image_size", "64") == 0
    geometry = json.loads((tmp_path / "sized" / "embeddings.json").read_text())["preprocessing"]
    assert geometry["crop_size"] == 64 and geometry["interpolation"] == "bicubic"


def test_metrics_of_classes_are_printed(folder, weights, tmp_path, capsys):
    out = tmp_path / "out"
    argv = (f"timm.{MODEL}", folder, "--weights", weights)
    assert run(*argv, "--out", out, "--metrics", "e_recall@2", "mAP_r") == 0
    rows = torch.from_numpy(np.load(out / "embeddings.npy"))
    values = evaluate(rows, torch.arange(3).repeat_interleave(3), ["e_recall@2", "mAP_r"])
    table = capsys.readouterr().out.splitlines()
    cells = next(line for line in table if line.startswith(f"| timm.{MODEL}")).split("|")
    assert [cell.strip() for cell in cells[2:4]] == [f"{100 * value:.1f}" for value in values.values()]
    assert run(*argv, "--out", tmp_path / "silent", "--metrics") == 0
    assert run(f"timm.{MODEL}", folder / "a", "--weights", weights, "--out", tmp_path / "one") == 0
    assert "|" not in capsys.readouterr().out
    assert run(*argv, "--out", tmp_path / "wrong", "--metrics", "recall") == 2
    assert not (tmp_path / "wrong").exists()


def test_a_search_embeds_its_query_by_the_same_model(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    assert run("convnet", folder, "--not_pretrained", "--pooling", "gem", "--image_size", "24", "--out", out) == 0
    description = json.loads((out / "embeddings.json").read_text())
    assert description["checkpoint"]["path"] == "convnet"
    assert description["model"] == {"pooling": "gem", "not_pretrained": True}
    assert description["preprocessing"]["image_size"] == 24
    (tmp_path / "copy.png").write_bytes((folder / "b" / "1.png").read_bytes())
    query = [str(out), "copy.png", "--k", "1", "--no_picture", "--device", "cpu"]
    assert search_main(query) == 0
    assert "1.0000  b      b/1.png" in capsys.readouterr().out
    (out / "embeddings.json").write_text(json.dumps(description | {"model": {"pooling": 3}}))
    assert search_main(query) == 1
    assert "embeddings.json is damaged" in capsys.readouterr().err
    (out / "embeddings.json").write_text(json.dumps(description | {"model": {"not_pretrained": True}}))
    assert search_main(query) == 2
    assert "other weights now" in capsys.readouterr().err


def test_without_out_the_folder_has_the_names_of_model_and_source(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("convnet", folder, "--not_pretrained") == 0
    assert (tmp_path / f"convnet-{folder.name}" / "embeddings.npy").is_file()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "convnext_tiny", "swin_t"])
def test_own_pooling_of_torchvision_is_what_its_last_linear_layer_sees(name):
    network = architectures.select(f"torchvision.{name}", embed_dim=None, pretrained=False, pooling="own").eval()
    whole = get_model(name).eval()
    whole.load_state_dict(network.backbone.state_dict(), strict=False)
    linear = [part for part in whole.modules() if isinstance(part, torch.nn.Linear)]
    seen = []
    layer = linear[-1] if linear else whole.features
    layer.register_forward_hook(lambda _, given, output: seen.append(given[0] if linear else output.mean((2, 3))))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole(image)
        feature = network(image).feature
    torch.testing.assert_close(feature, seen[0])


@pytest.mark.parametrize("argv, words", [
    ("last.pt {images} --pooling avg", "--pooling is for a library's model"),
    ("convnet {images} --weights a --not_pretrained", "--weights says where"),
    ("timm.resnet1 {images}", "timm has no model of this name"),
    ("resnet", "the following arguments are required"),
])
def test_what_cannot_be_done_is_one_sentence(folder, tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    try:
        code = run(*argv.format(images=folder).split())
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert words in capsys.readouterr().err
