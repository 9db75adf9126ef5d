"""Networks by the names of `--arch`: a backbone, then the suffixes `_frozen` and `_normalize`."""
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

from architectures import exported
from architectures.backbones import BACKBONES, find
from architectures.backbones.base import run_blank_image
from architectures.backbones.features import width_of
from architectures.memory import select as select_memory
from architectures.network import OWN_POOLING, Features, Network
from datasets import transforms
from parameters import kwargs_for, wrong_flag
from utilities import checkpoint
from utilities.errors import RunError, UsageError, in_brief
from utilities.ranges import NO_PROJECTION
from utilities.registry import accepted

__all__ = ["ARCHITECTURES", "Features", "Network", "assemble", "parse_name", "restore", "select"]

ARCHITECTURES = BACKBONES
SUFFIXES = ("_frozen", "_normalize")


def parse_name(name: str) -> tuple[str, set[str]]:
    """`resnet50_frozen_normalize` -> ("resnet50", {"_frozen", "_normalize"})."""
    suffixes = set()
    while name.endswith(SUFFIXES):
        name, _, suffix = name.rpartition("_")
        suffixes.add(f"_{suffix}")
    return name, suffixes


def select(
    name: str,
    *,
    embed_dim: int | None,
    pretrained: bool,
    image_size: int | None = None,
    weights_dir: str | None = None,
    preprocessing: dict | None = None,
    **head,
) -> Network:
    """The network called `name`; a UsageError that lists the names if there is none of that name.

    image_size: side of the input, for backbones that are built for one; None: their own.
    weights_dir: a folder in which the library's weights are looked for first.
    preprocessing: what differs from that of the library's weights, of mean, std, channels,
    value_range and image_size. head: memory, pooling, feature_norm and frozen_affine of Network.
    """
    base, suffixes = parse_name(name)
    build = find(base)
    arguments = {
        "pretrained": pretrained,
        "weights_dir": weights_dir,
        "image_size": image_size,
        "own_pooling": head.get("pooling") == OWN_POOLING,
    }
    backbone = replace(build(**accepted(build, arguments)), **preprocessing or {})
    if backbone.pooled and head.get("pooling") not in (None, OWN_POOLING):
        raise UsageError(
            f"--pooling {head['pooling']}: --arch {base} has no map to pool, for its tokens become "
            "one vector by its own pooling; leave --pooling out."
        )
    return Network(
        backbone,
        embed_dim,
        normalize="_normalize" in suffixes,
        frozen="_frozen" in suffixes,
        **head,
    )


def check_name(name: str) -> None:
    """A UsageError that lists or suggests names if there is no network of this name."""
    find(parse_name(name)[0])


def check_side(network: Network, name: str, side: int) -> None:
    """A UsageError if the network takes no images of this side; one on features takes none at all."""
    if not width_of(name):
        run_blank_image(network.backbone, parse_name(name)[0], side)


def restore(path: str | Path) -> tuple[Network, dict]:
    """The network of a checkpoint or of a safetensors export, and the options of its run."""
    state = exported.load(path) if Path(path).is_dir() else checkpoint.load(path)
    options = state["options"]
    wrong = wrong_flag(options, any_choice=True)
    if wrong:
        raise RunError(
            f"{path} is damaged, or was made by another version of the code: its --{wrong} cannot "
            f"be {ascii(options[wrong])[:60]}."
        )
    try:
        network = assemble(options, pretrained=False)
        checkpoint.load_weights(network, state["network"], path)
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunError(
            f"{path} was made by another version of the code: its options and its weights give no "
            f"network here ({in_brief(error)})."
        ) from error
    return network, options


def assemble(options: dict, **arguments) -> Network:
    """The network of a run's options, its memory too; for further arguments see `select`.

    The memory's first weights are drawn before those of the backbone, unless its width follows from
    the backbone.
    """
    embed_dim = options["embed_dim"]
    flags = kwargs_for(Namespace(**options), "memory_")
    memory_of = partial(select_memory, options["memory"], **flags)
    arguments |= built_by(options)
    if embed_dim != NO_PROJECTION:
        memory = memory_of(embed_dim)
        return select(options["arch"], embed_dim=embed_dim, memory=memory, **arguments)
    network = select(options["arch"], embed_dim=None, **arguments)
    network.memory = memory_of(network.embed_dim)
    return network


def built_by(options: dict) -> dict:
    """The arguments of `select` in a run's options, of which older runs have fewer."""
    size = options.get("image_size")
    if size:
        crop = options.get("crop_size")
        size = transforms.sides(size, crop, options.get("augmentation")).input
    given = kwargs_for(Namespace(**options), "input_")
    return {
        "pooling": options.get("pooling"),
        "feature_norm": options.get("feature_norm", False),
        "image_size": size,
        "preprocessing": {name: value for name, value in given.items() if value is not None},
    }
