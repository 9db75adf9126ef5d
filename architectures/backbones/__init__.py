"""Backbones by the names of `--arch`: ours by exact name, `torchvision.NAME` and `timm.NAME` for any of theirs."""
from collections.abc import Callable
from functools import partial

from architectures.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from architectures.backbones.convnet import ConvNet, convnet
from architectures.backbones.from_timm import VIT_SMALL, timm_backbone, vit_small
from architectures.backbones.from_torchvision import preset_source, torchvision_backbone
from architectures.backbones.published import (
    BNINCEPTION,
    RESNET50,
    V1,
    bninception,
    googlenet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
)
from architectures.weights import Source, hub_source
from utilities.registry import lookup

__all__ = ["BACKBONES", "IMAGENET_MEAN", "IMAGENET_STD", "LIBRARIES", "Backbone", "ConvNet", "find",
           "weight_files"]

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "bninception": bninception,
    "convnet": convnet,
    "googlenet": googlenet,
    "resnet101": resnet101,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vit_small": vit_small,
}
LIBRARIES: dict[str, Callable[..., Backbone]] = {"torchvision": torchvision_backbone, "timm": timm_backbone}


def find(name: str) -> Callable[..., Backbone]:
    """The function that builds the backbone of this name; a UsageError that lists the names where there is none."""
    library, dot, model = name.partition(".")
    if dot and library in LIBRARIES:
        return partial(LIBRARIES[library], model)
    open_names = {f"{library}.NAME": build for library, build in LIBRARIES.items()}
    return lookup(BACKBONES | open_names, name, "backbone", "--arch")


def weight_files() -> dict[str, Source]:
    """Where the weights of each backbone of ours are, and the names of their files."""
    ours = {name: preset_source(name, V1) for name in ("googlenet", "resnet101", "resnet18", "resnet34")}
    return ours | {"bninception": BNINCEPTION, "resnet50": RESNET50, "vit_small": hub_source(f"timm/{VIT_SMALL}")}
