"""Every backbone trains a step and embeds at two sizes; its map is the one that the library's own head would pool."""
import copy
import sys

import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import pil_to_tensor

import architectures
from architectures.backbones import BACKBONES
from architectures.backbones.from_torchvision import trunk_of
from datasets.transforms import eval_transform
from utilities.errors import UsageError

SLOW = {"resnet50", "resnet101", "vit_small", "torchvision.convnext_tiny", "timm.swin_tiny_patch4_window7_224"}
WIDTHS = {"bninception": 1024, "convnet": 128, "googlenet": 1024, "resnet101": 2048, "resnet18": 512, "resnet34": 512,
          "resnet50": 2048, "vit_small": 384, "torchvision.convnext_tiny": 768, "timm.resnet26": 2048,
          "timm.vit_tiny_patch16_224": 192, "timm.swin_tiny_patch4_window7_224": 768, "timm.test_vit.r160_in1k": 64}
NEEDS = {"bninception": "pretrainedmodels", "vit_small": "timm"}


def named(names):
    """Names as parameters of a test, the slow ones marked."""
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


def network(name, **arguments):
    if module := NEEDS.get(name, "timm" if name.startswith("timm.") else None):
        pytest.importorskip(module)
    return architectures.select(f"{name}_normalize", embed_dim=8, pretrained=False, **arguments)


def test_every_backbone_is_tested():
    assert set(BACKBONES) < set(WIDTHS)


@pytest.mark.parametrize("name", named(WIDTHS))
def test_one_step_and_two_sizes(name):
    model = network(name).train()
    for norm in model._batch_norms():
        norm.momentum = 1.0                                                        # the statistics of this batch
    features = model(torch.randn(2, 3, 64, 64))
    assert features.feature.shape == (2, WIDTHS[name]) and features.embedding.shape == (2, 8)
    features.embedding.square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    torch.optim.Adam(model.parameters(), lr=1e-5).step()
    for side in (64, 96):
        rows = model.embed(torch.randn(2, 3, side, side))
        assert rows.isfinite().all()
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("name", named(sorted(name for name in WIDTHS if "vit" not in name and "swin" not in name
                                              and "convnext" not in name)))
def test_frozen_keeps_all_statistics_and_without_it_all_move(name):
    model = network(name)
    for frozen in (True, False):
        model.frozen = frozen
        before = {key: value.clone() for key, value in model.state_dict().items() if "running_" in key}
        model.train()(torch.randn(4, 3, 64, 64))
        state = model.state_dict()
        assert before and {torch.equal(value, state[key]) for key, value in before.items()} == {frozen}


# --- the map is the one that the head of the library pools

def head_input(model, head, image):
    """What reaches the classifier of a torchvision model, (B, F)."""
    seen = []
    hook = head.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    with torch.no_grad():
        model.eval()(image)
    hook.remove()
    return seen[0].flatten(1)


@pytest.mark.parametrize("name,head", [
    ("resnet18", "fc"), ("shufflenet_v2_x0_5", "fc"), ("densenet121", "classifier"),
    ("mobilenet_v3_small", "classifier"), ("mobilenet_v2", "classifier"), ("mnasnet0_5", "classifier"),
    ("regnet_y_400mf", "fc"), ("googlenet", "fc"), ("efficientnet_b0", "classifier"),
    pytest.param("swin_t", "head", marks=pytest.mark.slow),
    pytest.param("inception_v3", "fc", marks=pytest.mark.slow)])
def test_torchvision_maps_are_those_before_the_pooling(name, head):
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = get_model(name, weights=None, **options)
    image = torch.randn(2, 3, 96, 96)
    expected = head_input(model, getattr(model, head), image)
    with torch.no_grad():
        feature_map = trunk_of(model).eval()(image)
    torch.testing.assert_close(feature_map.mean((2, 3)), expected)


def test_googlenets_own_rescaling_is_in_its_mean_and_std():
    """With `transform_input`, as with its weights, torchvision's takes ImageNet's scale and changes it itself."""
    theirs = get_model("googlenet", weights=None, aux_logits=False, init_weights=True, transform_input=True)
    ours = architectures.select("googlenet", embed_dim=8, pretrained=False, pooling="avg").eval()
    ours.backbone.load_state_dict(theirs.state_dict(), strict=False)
    picture = coloured(256)
    expected = head_input(theirs, theirs.fc, get_model_weights("googlenet").DEFAULT.transforms()(picture)[None])
    with torch.no_grad():
        torch.testing.assert_close(ours(prepared(ours, picture)).feature, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "test_vit.r160_in1k", "test_convnext.r160_in1k",
                                  pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)])
def test_timm_features_are_those_of_its_own_pooling(name):
    timm = pytest.importorskip("timm")
    ours = network(f"timm.{name}", pooling=None if "vit" in name else "avg").eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(ours.backbone.state_dict())
    image = torch.randn(2, 3, ours.image_size, ours.image_size)
    with torch.no_grad():
        expected = theirs(image)
        if "convnext" in name:                                                     # its norm comes behind the pooling
            expected = theirs.head.norm(theirs.forward_features(image)).mean((2, 3))
        torch.testing.assert_close(ours(image).feature, expected)
        torch.testing.assert_close(copy.deepcopy(ours).double()(image.double()).feature.float(), expected)


# --- preparation of images

def coloured(side):
    """A picture whose channels differ in mean and pattern."""
    places = torch.arange(side)
    red = (places[:, None] * 3 % 256).expand(side, side)
    pixels = torch.stack([red, (places * 7 % 90).expand(side, side), torch.full((side, side), 17)], dim=2)
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def prepared(model, picture, **sizes):
    """A picture as evaluation gives it to the network, (1, 3, H, W)."""
    transform = eval_transform(**({"image_size": model.image_size} | sizes), **model.preprocessing)
    return transform.normalise(transform(pil_to_tensor(picture)))[None]


@pytest.mark.parametrize("side", [224, 227])
def test_bninception_gets_what_pretrainedmodels_gives_it(side):
    pretrainedmodels, utils = map(pytest.importorskip, ("pretrainedmodels", "pretrainedmodels.utils"))
    model, picture = network("bninception"), coloured(256)
    settings = pretrainedmodels.pretrained_settings["bninception"]["imagenet"] | {"input_size": [3, side, side]}
    scale = side / 256                                                             # so that it resizes to 256
    expected = utils.TransformImage(settings, scale=scale)(picture)
    found = prepared(model, picture, **({} if side == 224 else {"image_size": 256, "crop_size": 227}))[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert found.shape == (3, side, side) and (found[0] == 17 - 104).all()         # blue is first, from 0 to 255
    for other in ({"channels": "RGB"}, {"value_range": 1.0}):                      # what the comparison would notice
        model.preprocessing |= other
        assert not torch.allclose(prepared(model, picture), expected[:, :224, :224], atol=1e-3)


@pytest.mark.parametrize("side", [224, 227])
def test_bninceptions_map_is_7_by_7_at_both_sides_in_use(side):
    assert network("bninception").eval().backbone(torch.randn(1, 3, side, side)).shape == (1, 1024, 7, 7)


@pytest.mark.parametrize("name,weights", [
    ("resnet18", "resnet18.IMAGENET1K_V1"), ("resnet34", "resnet34.IMAGENET1K_V1"),
    pytest.param("resnet50", "resnet50.IMAGENET1K_V1", marks=pytest.mark.slow),
    ("torchvision.mobilenet_v3_small", "mobilenet_v3_small.DEFAULT")])
def test_images_are_prepared_as_torchvision_does(name, weights):
    model, picture = network(name), coloured(256)
    theirs, preset = weights.split(".")
    expected = get_model_weights(theirs)[preset].transforms()(picture)
    torch.testing.assert_close(prepared(model, picture)[0], expected, rtol=0, atol=1e-5)


def test_images_are_prepared_as_timm_does():
    timm = pytest.importorskip("timm")
    model = network("timm.vit_tiny_patch16_224")
    settings = timm.data.resolve_data_config(model=timm.create_model("vit_tiny_patch16_224"))
    assert (model.image_size, model.preprocessing["mean"], model.preprocessing["std"]) == (
        224, settings["mean"], settings["std"]) == (224, (0.5,) * 3, (0.5,) * 3)


# --- names, sizes, packages

@pytest.mark.parametrize("name,words", [
    ("resnet81", r"'resnet18'|'resnet101'.*bninception, convnet, .*vit_small, torchvision.NAME, timm.NAME"),
    ("torchvision.resnet81", "'torchvision.resnet18'.*--list torchvision lists all"),
    ("torchvision.resnet18.tag", "torchvision has no model"),
    ("timm.resnet62", "'timm.resnet26'.*--list timm lists all"),
    ("timm.resnet26.imagenet", "'timm.resnet26.bt_in1k'"), ("keras.x", "no backbone of this name")])
def test_unknown_names_are_one_sentence(name, words):
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=words):
        architectures.select(name, embed_dim=8, pretrained=False)


def test_names_of_libraries_keep_their_dots_and_underscores():
    name = "timm.vit_small_patch14_dinov2.lvd142m"
    assert architectures.parse_name(f"{name}_frozen_normalize") == (name, {"_frozen", "_normalize"})
    assert architectures.parse_name(name) == (name, set())


@pytest.mark.parametrize("name,package", [("bninception", "pretrainedmodels"), ("vit_small", "timm"),
                                          ("timm.resnet26", "timm")])
def test_a_missing_package_is_one_sentence(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"--arch {name} needs {package}: run pip install {package}"):
        architectures.select(name, embed_dim=8, pretrained=False)


def test_without_pretrainedmodels_resnet50_is_torchvisions(monkeypatch):
    ours = network("resnet50").backbone.state_dict()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = network("resnet50")
    theirs = model.backbone.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert model.preprocessing == network("resnet18").preprocessing and model.feature_dim == 2048


def test_tokens_have_a_pooling_of_their_own():
    with pytest.raises(UsageError, match="--pooling gem: --arch timm.test_vit .*leave --pooling out"):
        network("timm.test_vit", pooling="gem")


@pytest.mark.slow
def test_a_transformer_of_torchvision_is_built_for_its_size():
    model = network("torchvision.vit_b_32", image_size=96)
    assert model.embed(torch.randn(2, 3, 96, 96)).shape == (2, 8) and model.image_size == 224
    architectures.check_side(model, "torchvision.vit_b_32", 96)
    with pytest.raises(UsageError, match="--arch torchvision.vit_b_32 takes no images of 64 x 64 pixels.*--image_size"):
        architectures.check_side(model, "torchvision.vit_b_32_normalize", 64)


def test_images_too_small_for_a_network_are_one_sentence():
    model = network("convnet").train()
    with pytest.raises(UsageError, match="--arch convnet takes no images of 4 x 4 pixels"):
        architectures.check_side(model, "convnet_normalize", 4)
    assert all(module.training for module in model.modules())
    architectures.check_side(model, "convnet", 8)


def test_every_classifier_of_torchvision_can_be_named():
    names = torchvision.models.list_models(module=torchvision.models)
    assert len(names) > 70 and all(callable(architectures.find(f"torchvision.{name}")) for name in names)
