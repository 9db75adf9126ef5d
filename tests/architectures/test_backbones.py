"""Every backbone trains a step, embeds at two sizes, and gives the map that its own head pools."""

import copy
import re
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

SLOW = {
    "resnet50",
    "resnet101",
    "vit_small",
    "torchvision.convnext_tiny",
    "timm.swin_tiny_patch4_window7_224",
}
WIDTHS = {
    "bninception": 1024,
    "convnet": 128,
    "googlenet": 1024,
    "resnet101": 2048,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "vit_small": 384,
    "torchvision.convnext_tiny": 768,
    "timm.resnet26": 2048,
    "timm.vit_tiny_patch16_224": 192,
    "timm.swin_tiny_patch4_window7_224": 768,
    "timm.test_vit.r160_in1k": 64,
}
WITH_BATCH_NORM = sorted(name for name in WIDTHS if not re.search("vit|swin|convnext", name))
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
        # the statistics of this batch
        norm.momentum = 1.0
    features = model(torch.randn(2, 3, 64, 64))
    assert features.feature.shape == (2, WIDTHS[name])
    assert features.embedding.shape == (2, 8)
    features.embedding.square().sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), key
    torch.optim.Adam(model.parameters(), lr=1e-5).step()
    for side in (64, 96):
        rows = model.embed(torch.randn(2, 3, side, side))
        assert rows.isfinite().all()
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("name", named(WITH_BATCH_NORM))
def test_frozen_keeps_all_statistics_and_without_it_all_move(name):
    model = network(name)
    for frozen in (True, False):
        model.frozen = frozen
        statistics = [key for key in model.state_dict() if "running_" in key]
        before = {key: model.state_dict()[key].clone() for key in statistics}
        model.train()(torch.randn(4, 3, 64, 64))
        state = model.state_dict()
        assert before
        assert {torch.equal(value, state[key]) for key, value in before.items()} == {frozen}


# --- the map is the one that the head of the library pools


def head_input(model, head, image):
    """What reaches the classifier of a torchvision model, (B, F)."""
    seen = []
    hook = head.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    with torch.no_grad():
        model.eval()(image)
    hook.remove()
    return seen[0].flatten(1)


@pytest.mark.parametrize(
    "name,head",
    [
        ("resnet18", "fc"),
        ("shufflenet_v2_x0_5", "fc"),
        ("densenet121", "classifier"),
        ("mobilenet_v3_small", "classifier"),
        ("mobilenet_v2", "classifier"),
        ("mnasnet0_5", "classifier"),
        ("regnet_y_400mf", "fc"),
        ("googlenet", "fc"),
        ("efficientnet_b0", "classifier"),
        pytest.param("swin_t", "head", marks=pytest.mark.slow),
        pytest.param("inception_v3", "fc", marks=pytest.mark.slow),
    ],
)
def test_torchvision_maps_are_those_before_the_pooling(name, head):
    options = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    model = get_model(name, weights=None, **options)
    image = torch.randn(2, 3, 96, 96)
    expected = head_input(model, getattr(model, head), image)
    with torch.no_grad():
        feature_map = trunk_of(model).eval()(image)
    torch.testing.assert_close(feature_map.mean((2, 3)), expected)


def test_googlenets_own_rescaling_is_in_its_mean_and_std():
    """torchvision's takes ImageNet's scale with its weights and changes it itself."""
    theirs = get_model(
        "googlenet", weights=None, aux_logits=False, init_weights=True, transform_input=True
    )
    ours = architectures.select("googlenet", embed_dim=8, pretrained=False, pooling="avg").eval()
    ours.backbone.load_state_dict(theirs.state_dict(), strict=False)
    picture = coloured(256)
    image = get_model_weights("googlenet").DEFAULT.transforms()(picture)
    expected = head_input(theirs, theirs.fc, image[None])
    with torch.no_grad():
        feature = ours(prepared(ours, picture)).feature
    torch.testing.assert_close(feature, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet.r160_in1k",
        "test_vit.r160_in1k",
        "test_convnext.r160_in1k",
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
    ],
)
def test_timm_features_are_those_of_its_own_pooling(name):
    timm = pytest.importorskip("timm")
    ours = network(f"timm.{name}", pooling=None if "vit" in name else "avg").eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(ours.backbone.state_dict())
    image = torch.randn(2, 3, ours.image_size, ours.image_size)
    with torch.no_grad():
        expected = theirs(image)
        # its norm comes behind the pooling
        if "convnext" in name:
            expected = theirs.head.norm(theirs.forward_features(image)).mean((2, 3))
        torch.testing.assert_close(ours(image).feature, expected)
        feature = copy.deepcopy(ours).double()(image.double()).feature
        torch.testing.assert_close(feature.float(), expected)


# --- preparation of images


def coloured(side):
    """A picture whose channels differ in mean and pattern."""
    places = torch.arange(side)
    red = (places[:, None] * 3 % 256).expand(side, side)
    green = (places * 7 % 90).expand(side, side)
    blue = torch.full((side, side), 17)
    pixels = torch.stack([red, green, blue], dim=2)
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def prepared(model, picture, **sizes):
    """A picture as evaluation gives it to the network, (1, 3, H, W)."""
    transform = eval_transform(**({"image_size": model.image_size} | sizes), **model.preprocessing)
    return transform.normalise(transform(pil_to_tensor(picture)))[None]


@pytest.mark.parametrize("side", [224, 227])
def test_bninception_gets_what_pretrainedmodels_gives_it(side):
    pretrainedmodels = pytest.importorskip("pretrainedmodels")
    utils = pytest.importorskip("pretrainedmodels.utils")
    model = network("bninception")
    picture = coloured(256)
    settings = dict(pretrainedmodels.pretrained_settings["bninception"]["imagenet"])
    settings["input_size"] = [3, side, side]
    # so that it resizes to 256
    scale = side / 256
    expected = utils.TransformImage(settings, scale=scale)(picture)
    sizes = {"image_size": 256, "crop_size": 227} if side == 227 else {}
    found = prepared(model, picture, **sizes)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert found.shape == (3, side, side)
    # Blue is first, from 0 to 255.
    assert (found[0] == 17 - 104).all()
    # what the comparison would notice
    for other in ({"channels": "RGB"}, {"value_range": 1.0}):
        model.preprocessing |= other
        assert not torch.allclose(prepared(model, picture), expected[:, :224, :224], atol=1e-3)


@pytest.mark.parametrize("side", [224, 227])
def test_bninceptions_map_is_7_by_7_at_both_sides_in_use(side):
    trunk = network("bninception").eval().backbone
    assert trunk(torch.randn(1, 3, side, side)).shape == (1, 1024, 7, 7)


@pytest.mark.parametrize(
    "name,weights",
    [
        ("resnet18", "resnet18.IMAGENET1K_V1"),
        ("resnet34", "resnet34.IMAGENET1K_V1"),
        pytest.param("resnet50", "resnet50.IMAGENET1K_V1", marks=pytest.mark.slow),
        ("torchvision.mobilenet_v3_small", "mobilenet_v3_small.DEFAULT"),
    ],
)
def test_images_are_prepared_as_torchvision_does(name, weights):
    model = network(name)
    picture = coloured(256)
    theirs, preset = weights.split(".")
    expected = get_model_weights(theirs)[preset].transforms()(picture)
    torch.testing.assert_close(prepared(model, picture)[0], expected, rtol=0, atol=1e-5)


def test_images_are_prepared_as_timm_does():
    timm = pytest.importorskip("timm")
    model = network("timm.vit_tiny_patch16_224")
    settings = timm.data.resolve_data_config(model=timm.create_model("vit_tiny_patch16_224"))
    assert model.image_size == 224
    for statistic in ("mean", "std"):
        assert model.preprocessing[statistic] == settings[statistic] == (0.5, 0.5, 0.5)


# --- names, sizes, packages


@pytest.mark.parametrize(
    "name,words",
    [
        (
            "resnet81",
            "Did you mean resnet1(8|01).*bninception, .*vit_small, torchvision.NAME, timm.NAME",
        ),
        ("torchvision.resnet81", "'torchvision.resnet18'.*--list torchvision lists all"),
        ("torchvision.resnet18.tag", "torchvision has no model"),
        ("timm.resnet62", "'timm.resnet26'.*--list timm lists all"),
        ("timm.resnet26.imagenet", "'timm.resnet26.bt_in1k'"),
        ("keras.x", "no backbone of this name"),
    ],
)
def test_unknown_names_are_one_sentence(name, words):
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=words):
        architectures.select(name, embed_dim=8, pretrained=False)


def test_names_of_libraries_keep_their_dots_and_underscores():
    name = "timm.vit_small_patch14_dinov2.lvd142m"
    assert architectures.parse_name(f"{name}_frozen_normalize") == (name, {"_frozen", "_normalize"})
    assert architectures.parse_name(name) == (name, set())


@pytest.mark.parametrize(
    "name,package",
    [("bninception", "pretrainedmodels"), ("vit_small", "timm"), ("timm.resnet26", "timm")],
)
def test_a_missing_package_is_one_sentence(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=f"--arch {name} needs {package}: run pip install {package}"
    ):
        architectures.select(name, embed_dim=8, pretrained=False)


def test_without_pretrainedmodels_resnet50_is_torchvisions(monkeypatch):
    ours = network("resnet50").backbone.state_dict()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = network("resnet50")
    theirs = model.backbone.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert model.preprocessing == network("resnet18").preprocessing
    assert model.feature_dim == 2048


def test_tokens_have_a_pooling_of_their_own():
    with pytest.raises(
        UsageError, match="--pooling gem: --arch timm.test_vit .*leave --pooling out"
    ):
        network("timm.test_vit", pooling="gem")


@pytest.mark.slow
def test_a_transformer_of_torchvision_is_built_for_its_size():
    model = network("torchvision.vit_b_32", image_size=96)
    assert model.embed(torch.randn(2, 3, 96, 96)).shape == (2, 8)
    assert model.image_size == 224
    architectures.check_side(model, "torchvision.vit_b_32", 96)
    with pytest.raises(
        UsageError,
        match="--arch torchvision.vit_b_32 takes no images of 64 x 64 pixels.*--image_size",
    ):
        architectures.check_side(model, "torchvision.vit_b_32_normalize", 64)


def test_images_too_small_for_a_network_are_one_sentence():
    model = network("convnet").train()
    with pytest.raises(UsageError, match="--arch convnet takes no images of 4 x 4 pixels"):
        architectures.check_side(model, "convnet_normalize", 4)
    assert all(module.training for module in model.modules())
    architectures.check_side(model, "convnet", 8)


def test_every_classifier_of_torchvision_can_be_named():
    names = torchvision.models.list_models(module=torchvision.models)
    assert len(names) > 70
    assert all(callable(architectures.find(f"torchvision.{name}")) for name in names)
