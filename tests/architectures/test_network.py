"""Backbones, names and the promises of Network."""
import pytest
import torch

import architectures
from architectures.memory import select as select_memory
from utilities.errors import UsageError


def network(name="convnet_normalize", memory="none", dim=16, **arguments):
    return architectures.select(name, embed_dim=dim, pretrained=False, memory=select_memory(memory, dim, **arguments))


def test_names_split_into_backbone_and_suffixes():
    assert architectures.parse_name("resnet50_frozen_normalize") == ("resnet50", {"_frozen", "_normalize"})
    assert architectures.parse_name("resnet50_normalize_frozen") == ("resnet50", {"_frozen", "_normalize"})
    assert architectures.parse_name("convnet") == ("convnet", set())


def test_unknown_backbone_lists_and_suggests():
    with pytest.raises(UsageError, match="resnet18.*convnet, resnet18, resnet50"):
        network("resnet81_normalize")


@pytest.mark.parametrize("name,size,width", [("convnet", 28, 128), ("convnet", 40, 128), ("resnet18", 64, 512),
                                             pytest.param("resnet50", 64, 2048, marks=pytest.mark.slow)])
def test_shapes_and_one_step(name, size, width):
    model = network(name + "_normalize")
    features = model(torch.randn(4, 3, size, size))
    assert features.feature.shape == (4, width) and features.embedding.shape == (4, 16)
    features.embedding.sum().backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    torch.testing.assert_close(model.embed(torch.randn(3, 3, size, size)).norm(dim=1), torch.ones(3))


def test_feature_is_average_plus_maximum():
    model = network().eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = model.backbone(image)
        torch.testing.assert_close(model(image).feature, maps.mean((2, 3)) + maps.amax((2, 3)))


@pytest.mark.parametrize("memory,decode", [("none", None), ("realnvp", "mode"), ("realnvp", "mean"),
                                           ("realnvp", "sample"), ("glow", "sample"), ("constant", "mode"),
                                           ("mlp", "mode"), ("realnvp", "off")])
def test_embedding_of_an_image_does_not_depend_on_the_others(memory, decode):
    model = network(memory=memory, dim=64, **({"decode": decode} if decode else {}))
    for parameter in model.parameters():                                           # away from the identity start
        parameter.data += 0.02 * torch.randn_like(parameter)
    image, index = torch.randn(5, 3, 32, 32), torch.arange(5)
    if model.memory is not None:
        model.memory.nll(torch.randn(5, 64), torch.randn(5, 64))                   # actnorm takes its first batch
    first = model.embed(image, index)
    image[1:] = torch.randn(4, 3, 32, 32)
    second = model.embed(image, torch.tensor([0, 7, 8, 9, 10]))
    torch.testing.assert_close(first[0], second[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(first[1], second[1])
    torch.testing.assert_close(model.embed(image[:1], index[:1])[0], first[0], rtol=1e-5, atol=1e-6)


def test_embed_leaves_the_mode_and_the_statistics_alone():
    model = network()
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.embed(torch.randn(4, 3, 32, 32))
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name,moves", [("convnet_normalize", True), ("convnet_frozen_normalize", False)])
def test_frozen_keeps_the_batch_norm_statistics(name, moves):
    model = network(name)
    model.train()
    before = model.backbone[1].running_mean.clone()
    model(torch.randn(8, 3, 32, 32))
    assert torch.equal(before, model.backbone[1].running_mean) != moves


def test_normalize_decides_what_the_criterion_sees():
    embedding, context = torch.randn(3, 16), torch.rand(3, 16)
    torch.testing.assert_close(network().combine(embedding, context).norm(dim=1), torch.ones(3))
    assert torch.equal(network("convnet").combine(embedding, None), embedding)


def test_resnet50_of_pretrainedmodels_is_the_one_of_torchvision():
    pytest.importorskip("pretrainedmodels")
    from architectures import backbones

    ours = dict(backbones._resnet("resnet50", False, published_source=True).trunk.named_parameters())
    theirs = dict(backbones._resnet("resnet50", False, published_source=False).trunk.named_parameters())
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_unreachable_weights_are_one_sentence(monkeypatch, tmp_path):
    """No internet, no cached file: the download fails at once on a loopback port where nobody listens."""
    import torchvision

    from utilities.errors import RunError

    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(type(weights), "url", "http://127.0.0.1:9/none-00000000.pth", raising=False)
    with pytest.raises(RunError, match="--not_pretrained"):
        architectures.select("resnet18", embed_dim=8, pretrained=True)
