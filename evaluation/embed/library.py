"""A library's model as it is, in the place of a checkpoint: its own features, prepared by its own
transform.
"""
import hashlib
import math
from pathlib import Path
from typing import Any

import architectures
from architectures.backbones import BACKBONES, LIBRARIES
from architectures.network import OWN_POOLING, POOLINGS, Network
from architectures.weights import flags_beside, load_file
from utilities.ranges import NO_PROJECTION
from utilities.seed import seeded
from utilities.weights import add_to_digest

# Of the random weights of --not_pretrained, which a search must find again.
SEED = 1
# Settings of such a model, as flags, and their types.
SETTINGS = {"pooling": str, "weights": str, "weights_dir": str, "not_pretrained": bool}


def is_name(name: str | Path) -> bool:
    """Whether this is the name of an architecture, and not of a file or folder."""
    base, _ = architectures.parse_name(str(name))
    library, dot, _ = base.partition(".")
    is_known = base in BACKBONES or dot and library in LIBRARIES
    return bool(is_known) and not Path(name).exists()


def holds_settings(content: object) -> bool:
    """Whether this, from a file, can be the settings of `restore`."""
    return (isinstance(content, dict)
            and content.keys() <= SETTINGS.keys()
            and all(isinstance(value, SETTINGS[name]) for name, value in content.items())
            and content.get("pooling", OWN_POOLING) in POOLINGS)


def restore(name: str, settings: dict[str, Any],
            image_size: int | None = None) -> tuple[Network, dict]:
    """The model without projection, and its options as those of a run; for settings see SETTINGS."""
    weights = settings.get("weights")
    options = {
        "arch": name,
        "embed_dim": NO_PROJECTION,
        "memory": "none",
        "pooling": settings.get("pooling", OWN_POOLING),
        "bs": 32,
        "augmentation": "base",
    }
    given = {"image_size": image_size} if image_size else {}
    options |= given | (flags_beside(weights, given) if weights else {})
    pretrained = not (weights or settings.get("not_pretrained"))
    with seeded(SEED):
        network = architectures.assemble(options, pretrained=pretrained,
                                      weights_dir=settings.get("weights_dir"))
    if weights:
        print(load_file(network.backbone, weights, name))
    if "crop_size" in options:
        return network, options
    side = options.get("image_size") or network.image_size
    return network, options | geometry(network, side)


def geometry(network: Network, side: int) -> dict[str, Any]:
    """The flags by which the library prepares images of this side."""
    share = network.crop_share
    if share is None:
        return {"image_size": side}
    # 224 / (224 / 236) is a little less than 236
    resized = math.floor(side / share + 1e-6)
    return {"image_size": resized, "crop_size": side, "interpolation": network.interpolation}


def digest(network: Network) -> str:
    """What tells the weights."""
    found = hashlib.sha256()
    add_to_digest(found, network.state_dict())
    return found.hexdigest()
