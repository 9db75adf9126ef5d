"""The networks of the published tables, with the weights that those used."""
import warnings

from torch import nn

from architectures.backbones.base import Backbone
from architectures.backbones.from_torchvision import torchvision_backbone, trunk_of
from architectures.weights import Source, load_source
from utilities.optional import installed, require

# The first weights that torchvision had.
V1 = "IMAGENET1K_V1"
RESNET50 = Source(
    "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    also=("https://download.pytorch.org/models/resnet50-19c8e357.pth",),
)
BNINCEPTION = Source(
    "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
    remark=(
        "That server is reported dead, and no library is known to host the file elsewhere; any "
        "copy with this sum is the same, such as one in the cache of an older machine "
        "(docs/backbones.md). "
    ),
)


def resnet18(pretrained: bool, weights_dir: str | None = None) -> Backbone:
    """ResNet-18 (He 2016) of torchvision."""
    return _first_weights("resnet18", pretrained, weights_dir)


def resnet34(pretrained: bool, weights_dir: str | None = None) -> Backbone:
    """ResNet-34 (He 2016) of torchvision."""
    return _first_weights("resnet34", pretrained, weights_dir)


def resnet50(pretrained: bool, weights_dir: str | None = None) -> Backbone:
    """ResNet-50 (He 2016) through pretrainedmodels, as published.

    Where that is not installed, it is torchvision's, with the same layers and weights.
    """
    if not installed("pretrainedmodels"):
        return _first_weights("resnet50", pretrained, weights_dir)
    model, preprocessing = _pretrainedmodel("resnet50")
    trunk = trunk_of(model)
    if pretrained:
        load_source(trunk, "resnet50", RESNET50, weights_dir)
    return Backbone(trunk, model.last_linear.in_features, **preprocessing)


def resnet101(pretrained: bool, weights_dir: str | None = None) -> Backbone:
    """ResNet-101 (He 2016) of torchvision."""
    return _first_weights("resnet101", pretrained, weights_dir)


def bninception(pretrained: bool, weights_dir: str | None = None) -> Backbone:
    """BN-Inception (Ioffe and Szegedy 2015) of pretrainedmodels, as published.

    Its weights came from Caffe: BGR, values from 0 to 255, means 104, 117 and 128 in that order, no
    division. Of the two sides in use, 224 is that of the weights; 227, Caffe's habit, gives a map
    of the same 7 x 7.
    """
    require("--arch bninception", "pretrainedmodels")
    model, preprocessing = _pretrainedmodel("bninception")
    width = model.last_linear.in_features
    del model.last_linear
    # Up to the pooling.
    model.forward = model.features
    if pretrained:
        load_source(model, "bninception", BNINCEPTION, weights_dir)
    return Backbone(model, width, **preprocessing)


def googlenet(pretrained: bool, weights_dir: str | None = None) -> Backbone:
    """GoogLeNet (Szegedy 2015) of torchvision, without its auxiliary classifiers."""
    return _first_weights("googlenet", pretrained, weights_dir)


def _first_weights(name: str, pretrained: bool, weights_dir: str | None) -> Backbone:
    """The model of torchvision with its first weights, from which the published tables began."""
    return torchvision_backbone(name, pretrained, weights_dir=weights_dir, weights=V1, called=name)


def _pretrainedmodel(name: str) -> tuple[nn.Module, dict]:
    """The model of this name with random weights, and the preprocessing of its ImageNet weights."""
    import pretrainedmodels

    with warnings.catch_warnings():
        # It calls torchvision in an old way.
        warnings.simplefilter("ignore")
        model = getattr(pretrainedmodels, name)(pretrained=None)
    settings = pretrainedmodels.pretrained_settings[name]["imagenet"]
    return model, {
        "mean": tuple(map(float, settings["mean"])),
        "std": tuple(map(float, settings["std"])),
        "image_size": settings["input_size"][1],
        "channels": settings["input_space"],
        "value_range": float(settings["input_range"][1]),
    }
