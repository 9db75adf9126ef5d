"""Any model of timm without its classifier."""
from collections.abc import Callable
from functools import partial
from types import ModuleType

from torch import Tensor, nn

from architectures import state_dicts
from architectures.backbones.base import Backbone, run_blank_image
from architectures.weights import (
    Source,
    hub_source,
    local_file,
    require_answer,
    unreachable,
)
from datasets.crops import supported
from utilities.errors import UsageError, in_brief
from utilities.optional import require

# For images of any size a model takes one of these options, or none.
ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False})
CACHED = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
VIT_SMALL = "deit_small_patch16_224.fb_in1k"


def vit_small(pretrained: bool, weights_dir: str | None = None) -> Backbone:
    """DeiT-S (Touvron 2021) of timm: 16 x 16 patches, a class token of 384 numbers."""
    return timm_backbone(VIT_SMALL, pretrained, weights_dir, called="vit_small")


def names() -> list[str]:
    """The models that timm has, by their names alone and with the tag of each of their weights."""
    timm = _timm("timm.NAME")
    return sorted({*timm.list_models(), *timm.list_pretrained()})


def timm_backbone(
    name: str,
    pretrained: bool,
    weights_dir: str | None = None,
    called: str | None = None,
    own_pooling: bool = False,
) -> Backbone:
    """The model `name` of timm, with the preprocessing of its weights.

    A model that makes a map gives the map, with what its head does at each place of it. A model
    that makes tokens, or whose head does not work without its pooling, gives the vector that its
    classifier would see; with own_pooling every model does. called: the name of the model in
    errors.
    """
    called = called or f"timm.{name}"
    timm = _timm(called)
    model = _created(timm, name, called, pretrained, weights_dir)
    settings = timm.data.resolve_data_config(model=model)
    side = settings["input_size"][1]
    is_map = not own_pooling and _has_map(model, called, side) and _remove_pooling(model)
    if not is_map:
        model.reset_classifier(0)
    if is_map and getattr(model, "output_fmt", "NCHW") == "NHWC":
        model.forward = partial(channels_first, model.forward)
    return Backbone(
        model,
        _feature_dim(model, called, side, 4 if is_map else 2),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        image_size=side,
        pooled=not is_map,
        crop_share=settings["crop_pct"],
        interpolation=supported(settings["interpolation"]),
    )


def _feature_dim(model: nn.Module, called: str, side: int, axes: int) -> int:
    """The width of the features, which have so many axes, the channels second."""
    output = run_blank_image(model, called, side)
    if not isinstance(output, Tensor) or output.ndim != axes:
        raise UsageError(
            f"--arch {called} gives no feature of an image: choose another of "
            "python main.py --list timm."
        )
    return output.shape[1]


def _has_map(model: nn.Module, called: str, side: int) -> bool:
    """Whether the model makes a map of an image, not tokens."""
    features = run_blank_image(model, called, side, forward=model.forward_features)
    return isinstance(features, Tensor) and features.ndim == 4


def _remove_pooling(model: nn.Module) -> bool:
    """Remove classifier and pooling; False if the model has no head without its pooling."""
    try:
        model.reset_classifier(0, "")
        return True
    except (AssertionError, TypeError, ValueError):
        return False


def channels_first(forward: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """What `forward` makes of the images, (B, h, w, F), as (B, F, h, w)."""
    return forward(image).permute(0, 3, 1, 2)


def _created(
    timm: ModuleType, name: str, called: str, pretrained: bool, weights_dir: str | None
) -> nn.Module:
    """The whole model; timm converts and checks weights, of its hub or of a file in weights_dir."""
    if not pretrained:
        return _any_size(timm, name, pretrained=False)
    settings = timm.get_pretrained_cfg(name)
    source = source_of(settings, called)
    path = local_file(source, weights_dir)
    if not path and settings.hf_hub_id and not _is_cached(settings.hf_hub_id):
        # Otherwise the client tries for a minute.
        require_answer(called, source)
    overlay = {"state_dict": state_dicts.read(path)} if path else {}
    try:
        return _any_size(timm, name, pretrained=True, pretrained_cfg_overlay=overlay)
    # The client of the hub raises errors of any type.
    except Exception as error:
        reason = in_brief(error)
        if path:
            raise UsageError(f"{path} does not fit --arch {called} ({reason}).") from error
        raise unreachable(called, source, reason) from error


def _is_cached(repository: str) -> bool:
    """Whether the hub's client has weights of a repository on the disk, and so will not fetch."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in CACHED)


def _any_size(timm: ModuleType, name: str, **arguments) -> nn.Module:
    """The model for images of any size, where timm has that for it."""
    for options in ANY_SIZE:
        try:
            return timm.create_model(name, **options, **arguments)
        # It does not take these options.
        except TypeError:
            continue
    return timm.create_model(name, **arguments)


def source_of(settings, called: str) -> Source:
    """The file of a model's weights on timm's hub, or where else timm has it."""
    if not settings.has_weights:
        raise UsageError(
            f"--arch {called}: there are no pretrained weights for this model; pass "
            "--not_pretrained, or --weights FILE."
        )
    return hub_source(settings.hf_hub_id) if settings.hf_hub_id else Source(settings.url)


def _timm(arch: str) -> ModuleType:
    """The library, which only these names need."""
    require(f"--arch {arch}", "timm")
    import timm

    return timm
