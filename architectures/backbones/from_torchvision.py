"""Any classifier of torchvision without its classifier."""
from collections import OrderedDict

import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from architectures.backbones.base import Backbone, no_such_name, outcome
from architectures.weights import Source, load_source

HEADS = ("avgpool", "dropout", "flatten", "fc", "last_linear", "classifier", "head", "heads", "AuxLogits", "aux1",
         "aux2")
RESCALED = ("googlenet", "inception_v3")   # with `transform_input` they turn ImageNet's scale into -1 to 1 themselves


def names() -> list[str]:
    """The models that torchvision has for classification."""
    return list_models(module=torchvision.models)


def torchvision_backbone(name: str, pretrained: bool, image_size: int | None = None, weights_dir: str | None = None,
                         weights: str = "DEFAULT", called: str | None = None) -> Backbone:
    """The model `name` of torchvision up to its pooling, with the weights that torchvision calls `weights` and their
    preprocessing; a vision transformer up to its class token, for images of `image_size`, to which the embeddings of
    its positions are interpolated. Errors speak of `called`, its name here.
    """
    called = called or f"torchvision.{name}"
    if name not in names():
        raise no_such_name("torchvision", name, names())
    preset = get_model_weights(name)[weights]
    native = preset.transforms().crop_size[0]
    transformer, size = name.startswith("vit_"), image_size or native
    model = get_model(name, weights=None, **_options(name, size if transformer else None, pretrained))
    trunk = class_token(model) if transformer else trunk_of(model)
    if pretrained:
        load_source(trunk, called, preset_source(name, weights), weights_dir,
                    adapt=lambda state: _resized(model, state) if transformer else state)
    mean, std = ((0.5,) * 3,) * 2 if name in RESCALED else (tuple(preset.transforms().mean),
                                                             tuple(preset.transforms().std))
    width = outcome(trunk, called, size if transformer else native).shape[1]
    return Backbone(trunk, width, mean, std, image_size=native, pooled=transformer)


def preset_source(name: str, weights: str) -> Source:
    """Where torchvision keeps the weights of this model that it calls `weights`."""
    return Source(get_model_weights(name)[weights].url)


def _options(name: str, image_size: int | None, pretrained: bool) -> dict:
    """Arguments of the constructor: the fixed size of a transformer, no auxiliary classifiers, and no second
    initialisation where weights are loaded."""
    options = {} if image_size is None else {"image_size": image_size}
    if name in RESCALED:
        options |= {"aux_logits": False, "init_weights": not pretrained}
    return options


def trunk_of(model: nn.Module) -> nn.Sequential:
    """The layers of a model before its pooling, by their own names; what some models do between their layers in
    `forward`, or after the map in the head, is added."""
    layers = OrderedDict((name, nn.Sequential(*child) if isinstance(child, nn.ModuleList) else child)
                         for name, child in model.named_children() if name not in HEADS and child is not None)
    kind = type(model).__name__
    if kind == "DenseNet":
        layers["relu"] = nn.ReLU(inplace=True)
    if kind == "ConvNeXt":
        layers["norm"] = model.classifier[0]                                       # over the channels, at each place
    return nn.Sequential(layers)


def class_token(model: VisionTransformer) -> VisionTransformer:
    """A vision transformer whose output is the class token behind its last layer norm, (B, F)."""
    model.heads = nn.Identity()
    return model


def _resized(model: VisionTransformer, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the embeddings of positions for the image size of `model`."""
    return interpolate_embeddings(model.image_size, model.patch_size, OrderedDict(state))
