"""Any classifier of torchvision without its classifier.

torchvision is imported where a model of it is used: its import takes as long as that of torch.
"""
from collections import OrderedDict
from dataclasses import replace

from torch import nn

from architectures.backbones.base import Backbone, run_blank_image
from architectures.state_dicts import HEADS
from architectures.weights import Source, load_source
from datasets.crops import supported

NOT_IN_TRUNK = {*HEADS, "avgpool", "dropout", "flatten"}
# With `transform_input` these turn ImageNet's scale into -1 to 1 themselves.
RESCALED = ("googlenet", "inception_v3")
HALF = (0.5, 0.5, 0.5)


def names() -> list[str]:
    """The models that torchvision has for classification."""
    from torchvision import models
    return models.list_models(module=models)


def torchvision_backbone(
    name: str,
    pretrained: bool,
    image_size: int | None = None,
    weights_dir: str | None = None,
    weights: str = "DEFAULT",
    called: str | None = None,
    own_pooling: bool = False,
) -> Backbone:
    """The model `name` of torchvision up to its pooling, or a vision transformer's class token.

    With own_pooling, up to its last linear layer.
    A transformer is built for images of `image_size`, to which the embeddings of its positions are
    interpolated. weights: torchvision's name of the weights, which have their own preprocessing.
    called: the name of the model in errors.
    """
    from torchvision.models import get_model, get_model_weights
    called = called or f"torchvision.{name}"
    preset = get_model_weights(name)[weights].transforms()
    side = preset.crop_size[0]
    transformer = name.startswith("vit_")
    if transformer:
        side = image_size or side
        trunk = get_model(name, weights=None, image_size=side)
        trunk.heads = nn.Identity()
    else:
        model = get_model(name, weights=None, **_options(name, pretrained))
        trunk = without_classifier(model) if own_pooling else trunk_of(model)
    if pretrained:
        load_source(trunk, called, preset_source(name, weights), weights_dir)
    width = run_blank_image(trunk, called, side).shape[1]
    backbone = Backbone(trunk, width, pooled=transformer or own_pooling, **_prepared_by(preset))
    if name in RESCALED:
        return replace(backbone, mean=HALF, std=HALF)
    return backbone


def _prepared_by(preset) -> dict:
    """How torchvision's transform of some weights prepares an image, as fields of a Backbone."""
    side = preset.crop_size[0]
    return {
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "image_size": side,
        "crop_share": side / preset.resize_size[0],
        "interpolation": supported(preset.interpolation.value),
    }


def preset_source(name: str, weights: str) -> Source:
    """Where torchvision keeps the weights of this model that it calls `weights`."""
    from torchvision.models import get_model_weights
    return Source(get_model_weights(name)[weights].url)


def _options(name: str, pretrained: bool) -> dict:
    """No auxiliary classifiers, and no second initialisation where weights are loaded."""
    if name not in RESCALED:
        return {}
    return {"aux_logits": False, "init_weights": not pretrained}


def trunk_of(model: nn.Module) -> nn.Sequential:
    """The layers of a model before its pooling, by their own names.

    What some models do between their layers in `forward`, or after the map in the head, is added.
    """
    layers = OrderedDict()
    for name, child in model.named_children():
        if name not in NOT_IN_TRUNK and child is not None:
            layers[name] = nn.Sequential(*child) if isinstance(child, nn.ModuleList) else child
    kind = type(model).__name__
    if kind == "DenseNet":
        layers["relu"] = nn.ReLU(inplace=True)
    if kind == "ConvNeXt":
        # Over the channels, at each place.
        layers["norm"] = model.classifier[0]
    return nn.Sequential(layers)


def without_classifier(model: nn.Module) -> nn.Module:
    """The model without its last linear layer; SqueezeNet, which has none, without its classifier."""
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    if linear:
        model.set_submodule(linear[-1], nn.Identity())
    else:
        model.classifier = nn.AdaptiveAvgPool2d(1)
    return model
