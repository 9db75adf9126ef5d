"""Backbones by the names of `--arch`: ours, and `torchvision.NAME` or `timm.NAME` for theirs."""
from collections.abc import Callable
from functools import partial

from architectures.backbones import from_timm, from_torchvision
from architectures.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, no_such_name
from architectures.backbones.convnet import ConvNet, convnet
from architectures.backbones.features import features, width_of
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
from utilities.optional import require
from utilities.registry import lookup

__all__ = [
    "BACKBONES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LIBRARIES",
    "Backbone",
    "ConvNet",
    "find",
    "weight_files",
]

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
# The function that builds a library's model, and the one that lists the names of all.
LIBRARIES: dict[str, tuple[Callable[..., Backbone], Callable[[], list[str]]]] = {
    "torchvision": (torchvision_backbone, from_torchvision.names),
    "timm": (timm_backbone, from_timm.names),
}


def find(name: str) -> Callable[..., Backbone]:
    """The function that builds the backbone of this name; a UsageError lists the names."""
    library, dot, model = name.partition(".")
    if library == "features" and (not dot or width_of(name)):
        # without a width it only serves to try out settings
        return partial(features, width_of(name) or 1)
    if dot and library in LIBRARIES:
        require(f"--arch {name}", library)
        build, names = LIBRARIES[library]
        known = names()
        if model not in known:
            raise no_such_name(library, model, known)
        return partial(build, model)
    theirs = {f"{library}.NAME": entry for library, entry in LIBRARIES.items()}
    return lookup(BACKBONES | theirs, name, "backbone", "--arch")


def weight_files() -> dict[str, Source]:
    """Where the weights of each backbone of ours are, and the names of their files."""
    return {
        "googlenet": preset_source("googlenet", V1),
        "resnet101": preset_source("resnet101", V1),
        "resnet18": preset_source("resnet18", V1),
        "resnet34": preset_source("resnet34", V1),
        "bninception": BNINCEPTION,
        "resnet50": RESNET50,
        "vit_small": hub_source(f"timm/{VIT_SMALL}"),
    }
