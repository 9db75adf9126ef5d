"""Backbones, names and the promises of Network."""

import pytest
import torch
import torchvision

import architectures
from architectures.memory import select as select_memory
from utilities import checkpoint
from utilities.checkpoint import load_network
from utilities.errors import RunError, UsageError


def network(name="convnet_normalize", memory="none", dim=16, **arguments):
    return architectures.select(
        name, embed_dim=dim, pretrained=False, memory=select_memory(memory, dim, **arguments)
    )


def test_names_split_into_backbone_and_suffixes():
    both = ("resnet50", {"_frozen", "_normalize"})
    assert architectures.parse_name("resnet50_frozen_normalize") == both
    assert architectures.parse_name("resnet50_normalize_frozen") == both
    assert architectures.parse_name("convnet") == ("convnet", set())


def test_shapes():
    model = network()
    for size in (28, 40):
        features = model(torch.randn(4, 3, size, size))
        assert features.feature.shape == (4, 128)
        assert features.embedding.shape == (4, 16)


def test_feature_is_average_plus_maximum():
    model = network().eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = model.backbone(image)
        torch.testing.assert_close(model(image).feature, maps.mean((2, 3)) + maps.amax((2, 3)))


@pytest.mark.parametrize("pooling", ["avg", "gem"])
def test_feature_norm_is_of_the_pooled_feature_without_parameters(pooling):
    arguments = {"embed_dim": 8, "pretrained": False, "pooling": pooling}
    plain = architectures.select("convnet", **arguments).eval()
    normed = architectures.select("convnet", feature_norm=True, **arguments).eval()
    normed.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        h = plain(image).feature
        features = normed(image)
    variance = h.var(1, unbiased=False, keepdim=True)
    expected = (h - h.mean(1, keepdim=True)) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(features.feature, expected, rtol=1e-4, atol=1e-5)
    projected = normed.projection(expected)
    torch.testing.assert_close(features.embedding, projected, rtol=1e-4, atol=1e-5)


def test_pooling_is_in_full_precision_under_autocast():
    model = architectures.select(
        "convnet", embed_dim=8, pretrained=False, pooling="gem", feature_norm=True
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.randn(2, 3, 16, 16)).feature.dtype == torch.float32


def checkpoint_of(model, tmp_path, **options):
    basis = {"arch": "convnet_normalize", "embed_dim": 8, "memory": "none"}
    checkpoint.save(
        tmp_path / "last.pt", {"network": model.state_dict(), "options": basis | options}
    )
    return tmp_path / "last.pt"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pooling": "gem"},
        {"pooling": "max", "feature_norm": True, "image_size": 24, "augmentation": "base"},
        {
            "input_mean": [1.0, 2.0, 3.0],
            "input_channels": "BGR",
            "input_value_range": 255.0,
            "input_std": None,
        },
    ],
)
def test_a_network_is_restored_by_its_options_old_ones_too(tmp_path, options):
    given = {
        key.removeprefix("input_"): value
        for key, value in options.items()
        if key.startswith("input_") and value
    }
    model = architectures.select(
        "convnet_normalize",
        embed_dim=8,
        pretrained=False,
        pooling=options.get("pooling"),
        feature_norm=options.get("feature_norm", False),
        preprocessing=given,
    )
    restored, _ = architectures.restore(checkpoint_of(model, tmp_path, **options))
    image = torch.randn(3, 3, 24, 24)
    assert torch.equal(restored.embed(image), model.embed(image))
    assert restored.preprocessing == model.preprocessing
    assert not given or restored.preprocessing["channels"] == "BGR"


def test_a_checkpoint_that_does_something_else_with_the_same_tensors_is_refused(tmp_path):
    model = architectures.select("convnet", embed_dim=8, pretrained=False)
    here = {
        "arch": "convnet_normalize",
        "embed_dim": 8,
        "memory": "none",
        "pooling": None,
        "feature_norm": False,
        "input_mean": None,
        "input_std": None,
        "input_channels": None,
        "input_value_range": None,
    }
    # one from before these flags
    load_network(checkpoint_of(model, tmp_path), model, here)
    for there, words in [
        ({"pooling": "max"}, "Pass --pooling max"),
        ({"feature_norm": True}, "Pass --feature_norm"),
        ({"input_mean": [0.0, 1.0, 2.0]}, "Pass --input_mean 0.0 1.0 2.0"),
    ]:
        with pytest.raises(UsageError, match=f"does not fit this network. {words}[.]"):
            load_network(checkpoint_of(model, tmp_path, **there), model, here)
        load_network(checkpoint_of(model, tmp_path, **there), model, here | there)
    flow = {"memory": "realnvp"}
    # unit was the only condition before there was a flag for it
    load_network(checkpoint_of(model, tmp_path, **flow), model, here | flow | {"memory_condition": "unit"})
    with pytest.raises(UsageError, match="Pass --memory_condition unit[.]"):
        load_network(checkpoint_of(model, tmp_path, **flow), model, here | flow | {"memory_condition": "raw"})
    # a constant has none
    load_network(checkpoint_of(model, tmp_path, memory="constant"), model,
                 here | {"memory": "constant", "memory_condition": "raw"})
    # the default by name
    load_network(checkpoint_of(model, tmp_path), model, here | {"pooling": "avg+max"})
    load_network(checkpoint_of(model, tmp_path, pooling="avg+max"), model, here)
    with pytest.raises(UsageError, match="Pass no --pooling[.]"):
        load_network(checkpoint_of(model, tmp_path), model, here | {"pooling": "avg"})


@pytest.mark.parametrize(
    "memory,decode",
    [
        ("none", None),
        ("realnvp", "mode"),
        ("realnvp", "mean"),
        ("realnvp", "sample"),
        ("glow", "sample"),
        ("constant", "mode"),
        ("mlp", "mode"),
        ("realnvp", "off"),
    ],
)
def test_embedding_of_an_image_does_not_depend_on_the_others(memory, decode):
    model = network(memory=memory, dim=64, **({"decode": decode} if decode else {}))
    # away from the identity start
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    image = torch.randn(5, 3, 32, 32)
    index = torch.arange(5)
    if model.memory is not None:
        # actnorm takes its first batch
        model.memory.nll(torch.randn(5, 64), torch.randn(5, 64))
    first = model.embed(image, index)
    image[1:] = torch.randn(4, 3, 32, 32)
    second = model.embed(image, torch.tensor([0, 7, 8, 9, 10]))
    torch.testing.assert_close(first[0], second[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(first[1], second[1])
    alone = model.embed(image[:1], index[:1])
    torch.testing.assert_close(alone[0], first[0], rtol=1e-5, atol=1e-6)


def test_embed_leaves_the_mode_and_the_statistics_alone():
    model = network()
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.embed(torch.randn(4, 3, 32, 32))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "name,moves", [("convnet_normalize", True), ("convnet_frozen_normalize", False)]
)
def test_frozen_keeps_the_batch_norm_statistics(name, moves):
    model = network(name)
    model.train()
    before = model.backbone[1].running_mean.clone()
    model(torch.randn(8, 3, 32, 32))
    assert torch.equal(before, model.backbone[1].running_mean) != moves


def test_normalize_decides_what_the_criterion_sees():
    embedding = torch.randn(3, 16)
    context = torch.rand(3, 16)
    torch.testing.assert_close(network().combine(embedding, context).norm(dim=1), torch.ones(3))
    assert torch.equal(network("convnet").combine(embedding, None), embedding)


def test_unreachable_weights_are_one_sentence(monkeypatch, tmp_path):
    """No internet, no cached file: on a loopback port without a server a download fails at once."""
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(type(weights), "url", "http://127.0.0.1:9/none-00000000.pth", raising=False)
    with pytest.raises(RunError, match="--not_pretrained"):
        architectures.select("resnet18", embed_dim=8, pretrained=True)
