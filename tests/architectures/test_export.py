"""Exported networks: equal embeddings, what model.json says, and errors in one sentence."""

import contextlib
import importlib.util
import json
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

import architectures
from architectures import export, onnx
from architectures.backbones import Backbone, ConvNet
from architectures.exported import DESCRIPTION
from architectures.memory import select as select_memory
from architectures.network import Network
from flows.image_layers import InvertibleConvolution
from flows.layers import InvertibleLinear
from utilities import checkpoint
from utilities.digest import sha256
from utilities.errors import RunError, UsageError

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx packages are not installed",
)
SMALL = {"couplings": 2, "hidden": 16, "levels": 2, "steps": 1, "channels": 8, "samples": 3}


def make(folder, arch="convnet_normalize", memory="none", decode="mode", dim=64, **state):
    """A checkpoint of a network with no parameter and no statistic where it starts."""
    options = {
        "arch": arch,
        "embed_dim": dim,
        "memory": memory,
        "memory_decode": decode,
        "image_size": None,
        "augmentation": "shift",
        "bs": 4,
        "amp": "none",
        "save_path": "/home/someone",
        "evaluation_metrics": ["e_recall@1"],
    } | {f"memory_{name}": value for name, value in SMALL.items()}
    network = architectures.select(
        arch,
        embed_dim=dim,
        pretrained=False,
        memory=select_memory(memory, dim, decode=decode, **SMALL),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for statistic in (buffer for name, buffer in network.named_buffers() if "running" in name):
            statistic.add_(0.5 * torch.rand_like(statistic))
    path = folder / "last.pt"
    checkpoint.save(path, {"network": network.state_dict(), "options": options} | state)
    return path


def run(*argv):
    return export.main([str(word) for word in argv])


def model(folder):
    return json.loads((folder / DESCRIPTION).read_text())


def test_a_folded_linear_map_is_the_inverse_of_the_whole_matrix():
    linear = InvertibleLinear(6).double()
    torch.nn.init.normal_(linear.log_s, std=0.3)
    # column j is W e_j
    matrix = linear(torch.eye(6, dtype=torch.float64))[0].T
    folded = onnx.FoldedLinear(linear.float())
    x = torch.randn(5, 6)
    expected = x @ torch.linalg.inv(matrix).float().T
    torch.testing.assert_close(folded.inverse(x)[0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(folded.inverse(x)[0], linear.inverse(x)[0], rtol=1e-5, atol=1e-5)


def test_a_folded_convolution_is_the_inverse_at_every_position():
    convolution = InvertibleConvolution(6)
    torch.nn.init.normal_(convolution.weight)
    folded = onnx.FoldedLinear(convolution)
    x = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(folded.inverse(x)[0], convolution.inverse(x)[0], rtol=1e-4, atol=1e-4)


@needs_onnx
@pytest.mark.parametrize(
    "arch,memory,decode",
    [
        ("convnet_normalize", "none", "mode"),
        ("convnet", "constant", "mode"),
        ("convnet_normalize", "mlp", "mode"),
        ("convnet_normalize", "realnvp", "mode"),
        ("convnet_normalize", "realnvp", "mean"),
        pytest.param("convnet_normalize_frozen", "realnvp", "off", marks=pytest.mark.slow),
        pytest.param("convnet_normalize", "realnvp", "sample", marks=pytest.mark.slow),
        ("convnet_normalize", "glow", "mode"),
        pytest.param("convnet_normalize", "glow", "mean", marks=pytest.mark.slow),
        pytest.param("resnet18_frozen_normalize", "none", "mode", marks=pytest.mark.slow),
    ],
)
def test_onnxruntime_gives_the_networks_embeddings(tmp_path, capsys, arch, memory, decode):
    path = make(tmp_path, arch, memory, decode)
    assert run(path, "--format", "onnx") == 0
    out = tmp_path / "last-onnx"
    said = capsys.readouterr().out
    assert ("exported to decode the mode" in said) == (decode == "sample")
    assert "for batches of 1 and of 7" in said
    network = architectures.restore(path)[0]
    content = model(out)
    if decode == "sample":
        network.memory.decoding = "mode"
    assert content["input"] == {"name": "image", "dtype": "float32", "shape": ["N", 3, "H", "W"]}
    assert content["largest_difference"] < 1e-5
    for n, height, width in ((1, 32, 32), (7, 32, 32), (2, 40, 64)):
        image = torch.randn(n, 3, height, width)
        rows = onnx.run_onnx(out / "model.onnx", image)
        torch.testing.assert_close(rows, network.embed(image), rtol=0, atol=1e-5)
    network.memory = None
    difference = (rows - network.embed(image)).abs().max()
    assert (difference > 0.01) == (memory != "none" and decode != "off")


@needs_onnx
def test_a_network_of_one_size_keeps_it_and_a_free_batch(tmp_path):
    class Placed(ConvNet):
        def __init__(self, height, width):
            super().__init__(4)
            self.place = torch.nn.Parameter(torch.randn(3, height, width))

        def forward(self, image):
            return super().forward(image + self.place)

    network = Network(Backbone(Placed(16, 16), 32), 8).eval()
    path = tmp_path / "x.onnx"
    assert onnx.write_onnx(network, 16, path) == ["N", 3, 16, 16]
    assert onnx.compare(network, path, ["N", 3, 16, 16], 16) < 1e-5
    with pytest.raises(RunError, match="cannot be exported to ONNX"):
        onnx.write_onnx(Network(Backbone(Placed(16, 24), 32), 8), 16, path)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_search_of_sides_that_never_ends_is_given_up(wrapped, monkeypatch, capsys):
    def trace(embedder, side, free):
        try:
            while free == onnx.FREE:
                with contextlib.suppress(Exception):
                    time.sleep(0.01)
        except BaseException as error:
            raise (TypeError("no size") if wrapped else error) from error
        return "graph"

    monkeypatch.setattr(onnx, "_trace", trace)
    monkeypatch.setattr(onnx, "SECONDS", 1)
    before = signal.getsignal(signal.SIGALRM)
    assert onnx._trace_freest(None, 32) == ("graph", onnx.BATCH)
    assert "fixed at 32 pixels" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("off,accepted", [(9e-5, True), (2e-4, False), (float("nan"), False)])
def test_a_file_that_differs_from_the_network_is_refused(
    tmp_path, capsys, monkeypatch, off, accepted
):
    path = make(tmp_path)
    asked = []
    network = architectures.restore(path)[0]

    def run_onnx(file, image):
        asked.append(tuple(image.shape))
        return network.embed(image) + off * (len(image) == 7)

    def write_onnx(network, side, path):
        path.write_bytes(b"x")
        return ["N", 3, "H", "W"]

    monkeypatch.setattr(onnx, "installed", lambda package: True)
    monkeypatch.setattr(onnx, "run_onnx", run_onnx)
    monkeypatch.setattr(export, "write_onnx", write_onnx)
    assert run(path, "--format", "onnx") == (0 if accepted else 1)
    assert ("more than 0.0001" in capsys.readouterr().err) == (not accepted)
    assert (tmp_path / "last-onnx").exists() == accepted
    assert asked == [(1, 3, 32, 32), (1, 3, 96, 96), (7, 3, 32, 32), (7, 3, 96, 96)]


@pytest.mark.parametrize(
    "memory,decode,exported",
    [
        ("none", "mode", "off"),
        ("realnvp", "mode", "mode"),
        ("glow", "mean", "mean"),
        ("mlp", "sample", "mode"),
    ],
)
def test_safetensors_load_back_equal(tmp_path, memory, decode, exported):
    path = make(tmp_path, memory=memory, decode=decode)
    assert run(path, "--format", "safetensors", "--out", tmp_path / "new" / "out") == 0
    network, content = export.load_export(tmp_path / "new" / "out")
    original = architectures.restore(path)[0]
    for name, tensor in original.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    if decode == "sample":
        original.memory.decoding = "mode"
    image = torch.randn(3, 3, 32, 32)
    assert torch.equal(network.embed(image), original.embed(image))
    assert not network.training
    assert content["weights"]["sha256"] == sha256(tmp_path / "new" / "out" / "model.safetensors")
    assert content["checkpoint"] == {"file": "last.pt", "sha256": sha256(path)}
    assert content["decoding"] == exported


def test_tensors_that_share_memory_are_written(tmp_path):
    network = architectures.restore(make(tmp_path))[0]
    network.register_buffer("again", network.projection.weight.detach())
    content = {"preprocessing": {"crop": 32}, "input": {}}
    export._as_safetensors(network, content, tmp_path / "file")
    tensors = load_file(tmp_path / "file")
    assert torch.equal(tensors["again"], tensors["projection.weight"])


def test_a_network_of_one_size_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "other_side", lambda network, side: [])
    assert run(make(tmp_path), "--format", "safetensors") == 0
    assert model(tmp_path / "last-safetensors")["input"]["shape"] == ["N", 3, 32, 32]


def test_the_place_of_weights_is_not_told(tmp_path):
    state = checkpoint.load(make(tmp_path))
    state["options"]["weights"] = "/home/someone/w.safetensors"
    checkpoint.save(tmp_path / "other.pt", state)
    assert run(tmp_path / "other.pt", "--format", "safetensors") == 0
    assert "someone" not in json.dumps(model(tmp_path / "other-safetensors"))


def test_model_json_says_how_to_use_the_network_and_what_it_has_seen(tmp_path):
    row = {
        "epoch": 2,
        "step": 8,
        "loss": 0.1,
        "e_recall@1": 0.5,
        "val_e_recall@1": 0.75,
        "val_e_recall@1_low": 0.7,
    }
    state = {
        "history": [{"epoch": 1, "step": 4}, row],
        "progress": {"epoch": 2, "step": 8},
        "best": {
            "e_recall@1": {"epoch": 2, "chosen_on": "val"},
            "nmi": {"epoch": 1, "chosen_on": "val"},
        },
        "classes": {"train": ["a", "b"], "val": ["c"], "test": ["d", "é"]},
    }
    path = make(tmp_path, **state)
    assert run(path, "--format", "safetensors") == 0
    content = model(tmp_path / "last-safetensors")
    assert content["metrics"] == {
        "test_classes": {"e_recall@1": 0.5},
        "step": 8,
        "epoch": 2,
        "validation_classes": {"e_recall@1": 0.75, "e_recall@1_low": 0.7},
        "best": {"e_recall@1": "validation_classes"},
    }
    assert content["classes"] == {
        "trained_on": ["a", "b"],
        "validated_on": ["c"],
        "never_seen": ["d", "é"],
    }
    told = content["preprocessing"]
    assert [told[side] for side in ("image_size", "resize", "crop")] == [32, 32, 32]
    assert told["channels"] == "RGB"
    assert told["mean"] == [0.5] * 3
    assert told["value_range"] == 1.0
    assert content["flags"]["embed_dim"] == 64
    assert content["commit"] is None or len(content["commit"]) == 40
    assert "someone" not in json.dumps(content)
    assert content["versions"]["torch"]


def test_numbers_of_other_weights_are_left_out(tmp_path):
    rows = [{"epoch": 1, "step": 4, "e_recall@1": 0.5}]
    older = export.metrics(
        {
            "options": {"evaluation_metrics": ["e_recall@1"]},
            "history": rows,
            "progress": {"epoch": 1, "step": 6},
            "best": {"e_recall@1": {"epoch": 1, "chosen_on": "test"}},
        }
    )
    assert older == {
        "test_classes": None,
        "validation_classes": None,
        "epoch": 1,
        "step": 6,
        "best": {},
    }
    assert export.classes({}) == {"trained_on": None, "validated_on": None, "never_seen": None}


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, capsys, monkeypatch):
    path = make(tmp_path)
    (tmp_path / "mine").mkdir()
    # of a call that was killed
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "x").write_text("old")
    assert run(path, "--format", "safetensors", "--out", tmp_path / "mine") == 2
    assert "never overwritten" in capsys.readouterr().err
    assert run(path, "--format", "safetensors", "--out", tmp_path / "out") == 0
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert written == {"model.safetensors", "model.json", "preprocess.py"}

    def write_json(path, content):
        raise OSError(28, "No space left")

    monkeypatch.setattr(export, "write_json", write_json)
    assert run(path, "--format", "safetensors", "--out", tmp_path / "full") == 1
    assert "No space left" in capsys.readouterr().err
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt", "mine", "out"}


def test_a_missing_package_is_one_sentence(tmp_path, capsys, monkeypatch):
    path = make(tmp_path)
    monkeypatch.setattr("utilities.optional.importlib.util.find_spec", lambda name: None)
    assert run(path, "--format", "onnx") == run(path, "--format", "safetensors") == 2
    said = capsys.readouterr().err
    assert "run pip install onnx onnxscript." in said
    assert "run pip install safetensors." in said
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_damaged_and_foreign_folders_are_refused(tmp_path):
    path = make(tmp_path)
    out = tmp_path / "last-safetensors"
    assert run(path, "--format", "safetensors") == 0
    content = model(out)
    weights = (out / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="no model.json"):
        architectures.restore(tmp_path)

    def refused(words, changed=None, stored=weights, kind=RunError):
        (out / "model.safetensors").write_bytes(stored)
        if not isinstance(changed, str):
            changed = json.dumps(content | (changed or {}))
        (out / DESCRIPTION).write_text(changed)
        with pytest.raises(kind, match=words):
            architectures.restore(out)

    for text in (
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"format": "pickle", "weights": {"sha256": ""}, "flags": {}}',
    ):
        refused("damaged, or of another version", text)
    refused("SHA-256 differs", stored=weights[:-1])
    # a pickle under another name
    bomb = b"\x80\x04\x95cos\nsystem\n"
    (tmp_path / "bomb").write_bytes(bomb)
    digest = {"weights": {"sha256": sha256(tmp_path / "bomb")}}
    refused("not a readable safetensors file", digest, bomb)
    refused("another version", {"flags": content["flags"] | {"embed_dim": 32}})
    refused("another version", {"flags": content["flags"] | {"embed_dim": "many"}})
    (out / "model.onnx").write_bytes(weights)
    refused("for ONNX runtimes", {"format": "onnx"}, kind=UsageError)
    (out / "model.safetensors").unlink()
    (out / DESCRIPTION).write_text(json.dumps(content))
    with pytest.raises(RunError, match="is missing"):
        architectures.restore(out)


@pytest.mark.parametrize("patch,expected", [(16, [176]), (14, [168]), (50, [])])
def test_the_other_side_of_a_comparison_is_one_that_patches_fill(patch, expected):
    class Patches:
        def embed(self, image):
            assert image.shape[2] % patch == 0

    assert onnx.other_side(Patches(), 112) == expected
