"""No backbone: the features are given, as rows of `--dataset embeddings`."""
import re

from torch import Tensor, nn

from architectures.backbones.base import Backbone
from utilities.errors import UsageError

NAME = re.compile(r"features\.([1-9][0-9]{0,6})")


class GivenFeatures(nn.Module):
    """In the place of a trunk, for a network that is given features; it refuses images."""

    def forward(self, image: Tensor) -> Tensor:
        raise UsageError("this network takes features and no images: give it a .npy file of rows "
                         "(python -m evaluation.embed CHECKPOINT FILE.npy).")


def features(width: int) -> Backbone:
    """What takes rows of `width` numbers in the place of images."""
    return Backbone(GivenFeatures(), width, pooled=True)


def width_of(name: str) -> int | None:
    """The width in a name such as features.512_normalize; None for a backbone that takes images."""
    found = NAME.match(name)
    return int(found[1]) if found else None


def with_width(name: str, width: int) -> str:
    """The name of a network for rows of this width: features -> features.512, its suffixes as they are.

    A UsageError where it has another width.
    """
    known = width_of(name)
    if known not in (None, width):
        raise UsageError(f"the rows have {width} numbers, and the network takes features of {known}: "
                         "give rows of the network that it was trained on.")
    return name if known else name.replace("features", f"features.{width}", 1)
