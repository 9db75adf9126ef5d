"""Weights of files: exact, incomplete, damaged, malicious; from a folder, a server or nowhere."""

import functools
import hashlib
import http.server
import json
import os
import pickle
import threading
import tracemalloc
import zipfile
from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.vision_transformer import interpolate_embeddings

import architectures
from architectures import state_dicts
from architectures.positions import resized
from architectures.weights import (
    Source,
    flags_beside,
    load_file,
    load_source,
    preprocessing_beside,
)
from utilities import checkpoint
from utilities.errors import RunError, UsageError


def body(seed=0):
    """A small trunk with batch norm; its tensors follow from the seed."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 4, 3), bn1=nn.BatchNorm2d(4), layer1=nn.Conv2d(4, 8, 1))
    )
    trunk.bn1.running_mean.normal_()
    return trunk


def load(state, tmp_path, name="w.pth"):
    """The state dict as a file, loaded into another trunk; that trunk, and what was said."""
    path = tmp_path / name
    save = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
    save(state, path)
    trunk = body(1)
    return trunk, load_file(trunk, str(path), "resnet18")


def same(trunk, other):
    others = other.state_dict()
    return all(torch.equal(value, others[key]) for key, value in trunk.state_dict().items())


@pytest.fixture
def state():
    return body().state_dict()


def refused(state, tmp_path, words, kind=UsageError, name="w.pth"):
    """The sentence with which a file is refused; the trunk is then as it was."""
    path = tmp_path / name
    if state is not None:
        torch.save(state, path)
    trunk = body(1)
    with pytest.raises(kind, match=words) as caught:
        load_file(trunk, str(path), "resnet18")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert same(trunk, body(1))


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
def test_exact_names(state, tmp_path, name):
    trunk, said = load(state, tmp_path, name)
    assert same(trunk, body())
    assert said == f"{tmp_path / name}: 9 tensors loaded."


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "backbone.",
        "model.",
        "encoder.",
        "module.backbone.",
        "module.encoder_q.",
        "network.backbone.",
    ],
)
def test_names_behind_a_prefix(state, tmp_path, prefix):
    assert same(load({prefix + key: value for key, value in state.items()}, tmp_path)[0], body())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "arch": "x"},
        lambda state: {"model": state},
        lambda state: {
            "network": state,
            "options": {"arch": "convnet"},
            "method": {"proxies": torch.ones(2)},
        },
        lambda state: {"state_dict": {"model": state}},
        lambda state: {"teacher": state, "student": {}},
    ],
)
def test_states_within_a_checkpoint(state, tmp_path, wrap):
    assert same(load(wrap(state), tmp_path)[0], body())


def test_a_checkpoint_of_ours_gives_its_backbone(tmp_path):
    network = architectures.select(
        "convnet_normalize", embed_dim=4, pretrained=False, pooling="gem"
    )
    torch.save({"network": network.state_dict(), "options": {}}, tmp_path / "last.pt")
    other = architectures.select("convnet", embed_dim=8, pretrained=False)
    said = load_file(other.backbone, str(tmp_path / "last.pt"), "convnet")
    assert same(other.backbone, network.backbone)
    assert said.endswith("; 3 of a head, left out (pooling.p, projection.weight, projection.bias).")


@pytest.mark.parametrize(
    "head",
    [
        "fc.weight",
        "last_linear.bias",
        "head.weight",
        "classifier.1.weight",
        "module.fc.bias",
        "projection.weight",
    ],
)
def test_a_classifier_is_left_out_and_said(state, tmp_path, head):
    trunk, said = load(state | {head: torch.ones(2)}, tmp_path)
    assert same(trunk, body())
    assert said.endswith(f"9 tensors loaded; 1 of a head, left out ({head}).")


def test_counters_of_batch_norm_may_be_missing(state, tmp_path):
    """As in files from before PyTorch 0.4.1."""
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    assert same(load(old, tmp_path)[0], body())


def test_vectors_saved_as_rows_are_vectors(state, tmp_path):
    """As batch norm in the files of BN-Inception."""
    rows = {
        key: value[None] if key.startswith("bn1") and value.ndim else value
        for key, value in state.items()
    }
    assert rows["bn1.weight"].shape == (1, 4)
    assert same(load(rows, tmp_path)[0], body())


def test_what_is_missing_is_listed(state, tmp_path):
    del state["conv1.weight"]
    refused(state, tmp_path, r"--arch resnet18: 1 missing \(conv1.weight\)\. ")
    refused(
        {"bn1.bias": state["bn1.bias"]},
        tmp_path,
        r"7 missing \(conv1.weight, conv1.bias, bn1.weight and 4 more\)",
    )


def test_another_shape_is_refused(state, tmp_path):
    refused(
        state | {"conv1.weight": torch.ones(4, 3, 7, 7)},
        tmp_path,
        r"1 of another shape \(conv1.weight: 4x3x7x7 instead of 4x3x3x3\)",
    )
    refused(
        state | {"conv1.bias": torch.ones(1, 1, 4)}, tmp_path, r"conv1.bias: 1x1x4 instead of 4"
    )


def test_what_is_left_over_is_refused(state, tmp_path):
    refused(
        state | {"layer2.weight": torch.ones(1), "a\nb": torch.ones(1)},
        tmp_path,
        r"2 left over \(layer2.weight, a\\nb\)",
    )


def test_a_tensor_that_is_there_twice_is_refused(state, tmp_path):
    refused(state | {"module.conv1.bias": torch.ones(4)}, tmp_path, "holds conv1.bias twice")


@pytest.mark.parametrize("state", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(3), {"model": {}}])
def test_a_file_without_weights_is_refused(state, tmp_path):
    refused(state, tmp_path, "holds no weights by name")


def test_no_file_is_one_sentence(tmp_path):
    refused(None, tmp_path, "there is no such file", name="absent.pth")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))]
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "place", [lambda bomb, state: bomb, lambda bomb, state: state | {"x": bomb}]
)
def test_a_pickle_bomb_is_refused_and_does_not_go_off(state, tmp_path, write, place):
    write(place(Bomb(tmp_path / "harm"), dict(state)), tmp_path / "bomb.pth")
    refused(None, tmp_path, "holds more than tensors, which is never run", RunError, "bomb.pth")
    assert not (tmp_path / "harm").exists()
    # it would
    pickle.loads(pickle.dumps(Bomb(tmp_path / "harm")))
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "name,words",
    [
        ("w.pth", "not a readable file of weights"),
        ("w.safetensors", "not a readable safetensors file"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"\x80\x02 no weights" * 9)
    refused(None, tmp_path, words, RunError, name)


# --- the library's weights: from a folder, from a server


def publish(folder, state):
    """The state dict as a file with the digits of its sum in its name."""
    torch.save(state, folder / "new.pth")
    digits = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    return (folder / "new.pth").rename(folder / f"body-{digits}.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty place for what torch downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("architectures.weights.WAITS", ())
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(tmp_path):
    """A folder that is served on this machine, and its address."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def test_a_served_file_is_fetched_once(state, server, hub):
    folder, url = server
    file = publish(folder, state)
    trunk = body(1)
    load_source(trunk, "resnet18", Source(url + file.name), None)
    assert same(trunk, body())
    assert (hub / file.name).read_bytes() == file.read_bytes()
    file.unlink()
    trunk = body(2)
    load_source(trunk, "resnet18", Source(url + file.name), None)
    assert same(trunk, body())


def test_a_served_file_with_a_wrong_sum_is_refused(state, server, hub):
    folder, url = server
    name = publish(folder, state).rename(folder / "body-0123abcd.pth").name
    trunk = body(1)
    with pytest.raises(
        RunError,
        match=f"{url}{name} .the file has the SHA256 sum .* instead of 0123abcd and was "
        "deleted.*--weights_dir FOLDER.*--not_pretrained",
    ):
        load_source(trunk, "resnet18", Source(url + name), None)
    assert same(trunk, body(1))
    assert not list(hub.glob("*.pth*"))


@pytest.mark.parametrize(
    "url,words",
    [
        ("http://127.0.0.1:9/body-0123abcd.pth", "Connection refused"),
        (None, "the server answered 404"),
    ],
)
def test_a_source_that_does_not_give_the_file_is_one_sentence(url, words, server, hub):
    url = url or f"{server[1]}body-0123abcd.pth"
    with pytest.raises(
        RunError,
        match=rf"weights of resnet18 could not be fetched from {url} \(.*{words}.*Dead since"
        r" 20.*Put body-0123abcd.pth \(its SHA-256 sum begins with 0123abcd\) into a "
        "folder and pass --weights_dir FOLDER",
    ) as caught:
        load_source(body(), "resnet18", Source(url, remark="Dead since 20. "), None)
    assert "--url" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_looked_in_first(state, tmp_path, hub):
    file = publish(tmp_path, state)
    for source in (
        Source(f"http://127.0.0.1:9/{file.name}"),
        Source("http://127.0.0.1:9/other-00000000.pth", also=(f"http://127.0.0.1:9/{file.name}",)),
        Source("http://127.0.0.1:9/model.safetensors", name=file.name),
    ):
        trunk = body(1)
        load_source(trunk, "resnet18", source, str(tmp_path))
        assert same(trunk, body())
    assert not hub.exists()


def test_a_file_of_the_folder_with_a_wrong_sum_is_refused(state, tmp_path, hub):
    publish(tmp_path, state).rename(tmp_path / "body-0123abcd.pth")
    with pytest.raises(
        RunError,
        match="body-0123abcd.pth is damaged or another file.*instead of 0123abcd.*http://x/",
    ):
        load_source(body(), "resnet18", Source("http://x/body-0123abcd.pth"), str(tmp_path))


def test_no_such_folder(tmp_path):
    with pytest.raises(UsageError, match="--weights_dir .*absent: there is no such folder"):
        load_source(
            body(), "resnet18", Source("http://127.0.0.1:9/x.pth"), str(tmp_path / "absent")
        )


def test_a_backbone_of_torchvision_takes_the_folder(tmp_path, hub, monkeypatch):
    import torchvision

    model = torchvision.models.squeezenet1_1(weights=None)
    file = publish(tmp_path, model.state_dict())
    preset = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    monkeypatch.setattr(type(preset), "url", f"http://127.0.0.1:9/{file.name}", raising=False)
    network = architectures.select(
        "torchvision.squeezenet1_1", embed_dim=8, pretrained=True, weights_dir=str(tmp_path)
    )
    given = model.state_dict()
    assert all(
        torch.equal(value, given[key]) for key, value in network.backbone.state_dict().items()
    )


@pytest.mark.slow
def test_positions_of_a_transformer_are_interpolated(tmp_path, hub, monkeypatch):
    import torchvision

    model = torchvision.models.vit_b_32(weights=None)
    file = publish(tmp_path, model.state_dict())
    preset = torchvision.models.ViT_B_32_Weights.DEFAULT
    monkeypatch.setattr(type(preset), "url", f"http://127.0.0.1:9/{file.name}", raising=False)
    arguments = {"embed_dim": 8, "pretrained": True, "weights_dir": str(tmp_path)}
    same_size = architectures.select("torchvision.vit_b_32", **arguments).backbone.state_dict()
    assert torch.equal(same_size["encoder.pos_embedding"], model.encoder.pos_embedding)
    larger = architectures.select(
        "torchvision.vit_b_32", image_size=448, **arguments
    ).backbone.state_dict()
    assert larger["encoder.pos_embedding"].shape == (1, 14 * 14 + 1, 768)
    assert torch.equal(larger["conv_proj.weight"], model.conv_proj.weight)


def test_a_backbone_of_timm_takes_the_folder(tmp_path, hub):
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_vit")
    file = tmp_path / "test_vit.r160_in1k.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    arguments = {"embed_dim": 8, "pretrained": True, "weights_dir": str(tmp_path)}
    network = architectures.select("timm.test_vit", **arguments)
    given = model.state_dict()
    assert all(
        torch.equal(value, given[key]) for key, value in network.backbone.state_dict().items()
    )
    del given["blocks.0.mlp.fc1.bias"]
    safetensors.torch.save_file(given, file)
    with pytest.raises(
        UsageError,
        match="test_vit.r160_in1k.safetensors does not fit --arch timm.test_vit .*fc1.bias",
    ):
        architectures.select("timm.test_vit", **arguments)


@pytest.mark.slow
def test_the_small_transformer_has_the_tensors_of_dinos(tmp_path):
    """The names of DINO's own code (vit_small), as its published checkpoints have them."""
    pytest.importorskip("timm")
    network = architectures.select("vit_small", embed_dim=8, pretrained=False)
    shapes = {
        "cls_token": (1, 1, 384),
        "pos_embed": (1, 197, 384),
        "patch_embed.proj.weight": (384, 3, 16, 16),
        "patch_embed.proj.bias": (384,),
        "norm.weight": (384,),
        "norm.bias": (384,),
    }
    linear = {
        "attn.qkv": (1152, 384),
        "attn.proj": (384, 384),
        "mlp.fc1": (1536, 384),
        "mlp.fc2": (384, 1536),
    }
    for i in range(12):
        for norm in ("norm1", "norm2"):
            shapes[f"blocks.{i}.{norm}.weight"] = (384,)
            shapes[f"blocks.{i}.{norm}.bias"] = (384,)
        for name, shape in linear.items():
            shapes[f"blocks.{i}.{name}.weight"] = shape
            shapes[f"blocks.{i}.{name}.bias"] = shape[:1]
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    head = {
        "module.head.mlp.0.weight": torch.ones(2),
        "module.head.last_layer.weight_g": torch.ones(2),
    }
    teacher = {f"module.backbone.{key}": state[key] for key in state} | head
    path = tmp_path / "dino.pth"
    torch.save({"student": {}, "teacher": teacher}, path)
    remark = load_file(network.backbone, str(path), "vit_small")
    assert "150 tensors loaded; 2 of a head" in remark
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.fixture
def requested(monkeypatch, tmp_path):
    """What timm's own client was asked for; it fails."""
    builder = pytest.importorskip("timm.models._builder")
    repositories = []

    def fail(repository, *_, **__):
        repositories.append(repository)
        raise OSError("no\nsuch file")

    monkeypatch.setattr(builder, "load_state_dict_from_hf", fail)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return repositories


def test_a_hub_that_does_not_answer_is_one_sentence_at_once(monkeypatch, hub, requested):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        RunError,
        match="timm.test_vit could not be fetched from http://127.0.0.1:9/timm/test_vit.*"
        r"refused\).*Put test_vit.r160_in1k.safetensors into a folder",
    ):
        architectures.select("timm.test_vit", embed_dim=8, pretrained=True)
    assert not requested


@pytest.mark.parametrize("address", ["hf-mirror.example", "http://a b"])
def test_a_hub_that_is_no_address_is_one_sentence(monkeypatch, hub, requested, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(RunError, match=f"timm.test_vit could not be fetched from {address}/"):
        architectures.select("timm.test_vit", embed_dim=8, pretrained=True)
    assert not requested


def test_a_hub_that_answers_is_left_to_its_client(monkeypatch, hub, requested, server):
    monkeypatch.setenv("HF_ENDPOINT", server[1].rstrip("/"))
    with pytest.raises(RunError, match=r"\(no such file\)"):
        architectures.select("timm.test_vit", embed_dim=8, pretrained=True)
    assert requested == ["timm/test_vit.r160_in1k"]


def test_what_the_hubs_client_has_on_the_disk_needs_no_hub(monkeypatch, hub, requested, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    place = tmp_path / "cache" / "models--timm--test_vit.r160_in1k"
    for file, text in (("refs/main", "1"), ("snapshots/1/model.safetensors", "")):
        (place / file).parent.mkdir(parents=True)
        (place / file).write_text(text)
    with pytest.raises(RunError, match=r"\(no such file\)"):
        architectures.select("timm.test_vit", embed_dim=8, pretrained=True)
    assert requested


def test_a_model_without_weights_is_one_sentence():
    pytest.importorskip("timm")
    with pytest.raises(
        UsageError, match="timm.maxvit_pico_rw_256: there are no pretrained weights"
    ):
        architectures.select("timm.maxvit_pico_rw_256", embed_dim=8, pretrained=True)


def test_the_dead_server_of_bninception_is_said(monkeypatch, hub):
    pytest.importorskip("pretrainedmodels")
    from architectures.backbones import published

    monkeypatch.setattr(
        published,
        "BNINCEPTION",
        published.BNINCEPTION._replace(url="http://127.0.0.1:9/bn_inception-52deb4733.pth"),
    )
    with pytest.raises(
        RunError,
        match="is reported dead.*Put bn_inception-52deb4733.pth .its SHA-256 sum begins with "
        "52deb4733",
    ):
        architectures.select("bninception", embed_dim=8, pretrained=True)


# --- preprocessing beside the weights

PREPROCESSING = {
    "image_size": 96,
    "mean": [1, 2, 3],
    "std": [4, 5, 6],
    "channels": "BGR",
    "value_range": 255,
}


def test_a_model_json_beside_the_weights_says_how_images_are_prepared(tmp_path):
    assert preprocessing_beside(str(tmp_path / "w.pth")) == {}
    (tmp_path / "model.json").write_text(json.dumps({"preprocessing": PREPROCESSING, "more": 1}))
    found = preprocessing_beside(str(tmp_path / "w.pth"))
    assert found == PREPROCESSING | {"mean": (1, 2, 3), "std": (4, 5, 6)}
    network = architectures.select("convnet", embed_dim=4, pretrained=False, preprocessing=found)
    assert network.image_size == 96
    assert network.preprocessing == {
        "mean": (1, 2, 3),
        "std": (4, 5, 6),
        "channels": "BGR",
        "value_range": 255,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [1, 2]},
        {"std": [1, 0, 1]},
        {"channels": "GBR"},
        {"image_size": "96"},
        {"value_range": 0},
        {"mean": None},
        {"std": [True] * 3},
        {"image_size": 0},
        {"mean": [float("nan")] * 3},
        {"value_range": float("inf")},
        {"resize": 64, "crop": 65},
        {"resize": 64.0, "crop": 32},
        {"resize": 64, "crop": 0},
    ],
)
def test_a_model_json_that_says_it_wrongly_is_refused(tmp_path, change):
    (tmp_path / "model.json").write_text(json.dumps({"preprocessing": PREPROCESSING | change}))
    with pytest.raises(UsageError, match='model.json has no complete "preprocessing"'):
        preprocessing_beside(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"preprocessing": 3}'])
def test_a_model_json_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(UsageError, match="model.json has no complete"):
        preprocessing_beside(str(tmp_path / "w.pth"))


SIZES = PREPROCESSING | {"image_size": 128, "resize": 146, "crop": 128}


@pytest.mark.parametrize("given, expected", [
    ({}, (146, 128)),
    ({"image_size": None, "crop_size": None}, (146, 128)),
    ({"image_size": 64}, (None, None)),
    ({"crop_size": 100}, (128, None)),
])
def test_sizes_beside_the_weights_go_together_or_not_at_all(tmp_path, given, expected):
    """A crop of the file out of an image of the command line's size would be neither's."""
    (tmp_path / "model.json").write_text(json.dumps({"preprocessing": SIZES}))
    flags = flags_beside(str(tmp_path / "w.pth"), given)
    assert (flags.get("image_size"), flags.get("crop_size")) == expected
    assert flags["input_mean"] == (1, 2, 3) and flags["input_channels"] == "BGR"
    assert "input_mean" not in flags_beside(str(tmp_path / "w.pth"), {"input_mean": (0, 0, 0)})


def test_an_export_gives_its_backbone_and_its_preprocessing(tmp_path):
    from architectures import export
    from utilities import checkpoint

    network = architectures.select(
        "convnet_normalize",
        embed_dim=8,
        pretrained=False,
        preprocessing={"mean": (9.0, 8.0, 7.0), "channels": "BGR", "value_range": 255.0},
    )
    options = {
        "arch": "convnet_normalize",
        "embed_dim": 8,
        "memory": "none",
        "image_size": 48,
        "augmentation": "base",
        "input_mean": [9.0, 8.0, 7.0],
        "input_channels": "BGR",
        "input_value_range": 255.0,
    }
    checkpoint.save(tmp_path / "last.pt", {"network": network.state_dict(), "options": options})
    assert (
        export.main(
            [str(tmp_path / "last.pt"), "--format", "safetensors", "--out", str(tmp_path / "out")]
        )
        == 0
    )
    weights = str(tmp_path / "out" / "model.safetensors")
    found = preprocessing_beside(weights)
    assert (found.pop("resize"), found.pop("crop")) == (48, 48)
    other = architectures.select("convnet", embed_dim=4, pretrained=False, preprocessing=found)
    assert "24 tensors loaded; 2 of a head" in load_file(other.backbone, weights, "convnet")
    assert same(other.backbone, network.backbone)
    assert (other.image_size, other.preprocessing) == (48, network.preprocessing)


def test_prefixes_are_cut_only_where_the_network_has_no_such_name():
    wanted = {"encoder.layer.weight": None, "weight": None}
    assert state_dicts.strip_prefixes("encoder.layer.weight", wanted) == "encoder.layer.weight"
    assert (
        state_dicts.strip_prefixes("module.encoder.layer.weight", wanted) == "encoder.layer.weight"
    )
    assert state_dicts.strip_prefixes("model.encoder.weight", wanted) == "weight"
    assert state_dicts.strip_prefixes("other.weight", wanted) == "other.weight"


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.model.", "model.module.model."]
)
def test_prefixes_of_wrappers_in_any_order(state, tmp_path, prefix):
    assert same(load({prefix + key: value for key, value in state.items()}, tmp_path)[0], body())


def test_averaged_weights_are_taken_first(state, tmp_path):
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    for wrapped in ({"state_dict_ema": state, "state_dict": other}, {"net_state": state, "config": {}}):
        assert same(load(wrapped, tmp_path)[0], body())


LAYOUTS = {
    "moco": lambda state: {"state_dict": {
        **{f"module.encoder_q.{key}": value for key, value in state.items()},
        **{f"module.encoder_k.{key}": value + 1 for key, value in state.items()},
        "module.queue": torch.zeros(4, 3), "module.queue_ptr": torch.zeros(1).long()}},
    "swav": lambda state: {
        **{f"module.{key}": value for key, value in state.items()},
        "module.projection_head.0.weight": torch.zeros(2, 2), "module.prototypes.weight": torch.zeros(2, 2)},
    "base framework": lambda state: {"opt": Namespace(arch="resnet50_frozen", seed=1), "state_dict": {
        **{f"model.{key}": value for key, value in state.items()},
        "layer_blocks.0.weight": state["layer1.weight"], "model.last_linear.weight": torch.zeros(4, 8)},
        "progress": {"loss": [np.float64(0.5), np.float32(0.25)]}, "aux": torch.device("cpu")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_others(state, tmp_path, layout):
    trunk, said = load(LAYOUTS[layout](state), tmp_path)
    assert same(trunk, body()) and "of a head, left out" in said


@pytest.mark.parametrize("damage,words", [
    (lambda value: value.to(torch.int8), "conv1.weight: int8"),
    (lambda value: value.to(torch.complex64), "conv1.weight: complex64"),
    (lambda value: value > 0, "conv1.weight: bool"),
    (lambda value: value.clone().index_fill_(0, torch.tensor(0), torch.nan), "conv1.weight: NaN or inf"),
    (lambda value: value.to_sparse(), "conv1.weight: without plain values"),
    (lambda value: value.to("meta"), "conv1.weight: without plain values"),
])
def test_tensors_that_are_no_weights_are_refused_by_name(state, tmp_path, damage, words):
    state["conv1.weight"] = damage(state["conv1.weight"])
    refused(state, tmp_path, words)


def test_half_precision_is_loaded(state, tmp_path):
    trunk, _ = load({key: value.half() for key, value in state.items() if "tracked" not in key}, tmp_path)
    assert torch.equal(trunk.conv1.weight, state["conv1.weight"].half().float())


def test_the_content_tells_what_a_file_is(state, tmp_path):
    for name in ("pytorch_model.bin", "w.SAFETENSORS", "w.pt"):
        safetensors.torch.save_file(state, tmp_path / name)
        trunk = body(1)
        load_file(trunk, str(tmp_path / name), "resnet18")
        assert same(trunk, body())
    for older in (False, True):
        path = tmp_path / f"{older}.safetensors"
        torch.save(state, path, _use_new_zipfile_serialization=not older)
        trunk = body(1)
        load_file(trunk, str(path), "resnet18")
        assert same(trunk, body())


def test_a_container_that_holds_itself_comes_to_an_end(tmp_path):
    endless = {}
    endless["state_dict"] = endless
    refused(endless, tmp_path, "no weights by name")


def test_compressed_parts_are_never_unpacked(tmp_path):
    bomb = tmp_path / "w.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}q\x00." + bytes(100_000_000))
        archive.writestr("w/version", "3")
    assert bomb.stat().st_size < 200_000
    tracemalloc.start()
    refused(None, tmp_path, "not a readable file of weights", RunError)
    with pytest.raises(RunError, match="not a readable checkpoint"):
        checkpoint.load(bomb)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def positions(tokens, dim=6, seed=0):
    return torch.randn(1, tokens, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("before", [0, 1, 2])
def test_positions_of_timm_are_as_timm_interpolates_them(before):
    timm = pytest.importorskip("timm")
    given = positions(before + 7 * 7)
    wanted = positions(before + 4 * 4)
    expected = timm.layers.resample_abs_pos_embed(given, [4, 4], num_prefix_tokens=before)
    found = resized("pos_embed", given, wanted)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, expected)
    if before:
        assert torch.equal(resized("pos_embed", given, positions(4 * 4)), found[:, before:])


def test_positions_of_torchvision_are_as_torchvision_interpolates_them():
    given = positions(1 + 7 * 7)
    name = "encoder.pos_embedding"
    expected = interpolate_embeddings(40, 4, OrderedDict({name: given}))[name]
    torch.testing.assert_close(resized(name, given, positions(1 + 10 * 10)), expected)


def test_other_tensors_and_other_widths_are_left_as_they_are():
    given = positions(1 + 7 * 7)
    for name, wanted in (
        ("norm.weight", positions(1 + 4 * 4)), ("pos_embed", positions(1 + 4 * 4, dim=5)),
        ("pos_embed", positions(8)), ("pos_embed", torch.zeros(6)),
        ("pos_embed", positions(2 + 4 * 4)),
    ):
        assert resized(name, given, wanted) is given


def test_a_transformer_takes_weights_of_another_image_size(tmp_path):
    small = get_model("vit_b_32", weights=None, image_size=64).state_dict()
    torch.save(small, tmp_path / "w.pth")
    network = architectures.select("torchvision.vit_b_32", embed_dim=4, pretrained=False, image_size=96)
    name = "encoder.pos_embedding"
    said = load_file(network.backbone, str(tmp_path / "w.pth"), "torchvision.vit_b_32")
    assert f"1 interpolated to this image size ({name})" in said
    expected = interpolate_embeddings(96, 32, OrderedDict({name: small[name]}))[name]
    torch.testing.assert_close(network.backbone.state_dict()[name], expected)
