"""What a backbone is: an image becomes a feature map; pooling and the rest are the Network's."""
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utilities.errors import UsageError, in_brief

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SUGGESTED = 3

# What the libraries raise for an image of a wrong size.
REFUSALS = (AssertionError, RuntimeError, ValueError, IndexError, TypeError)


@dataclass
class Backbone:
    """A network without its classifier, and how its images are to be prepared.

    trunk maps (B, 3, H, W) to (B, feature_dim, h, w), or with `pooled` to (B, feature_dim): a
    network on tokens pools them itself. image_size: side of its images where no other is asked for.
    Their channels have the order of `channels` (RGB or BGR), and values from 0 to `value_range`
    before mean and std, which are per channel in that order. crop_share, interpolation: how the
    library prepares an image for these weights, the side of the crop as a share of the resized
    shorter side; None: as --image_size has it.
    """

    trunk: nn.Module
    feature_dim: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_size: int = 224
    channels: str = "RGB"
    value_range: float = 1.0
    pooled: bool = False
    crop_share: float | None = None
    interpolation: str = "bilinear"

    @property
    def preprocessing(self) -> dict:
        """The arguments of a transform."""
        names = ("mean", "std", "channels", "value_range")
        return {name: getattr(self, name) for name in names}


@torch.no_grad()
def run_blank_image(
    model: nn.Module, name: str, side: int, forward: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """What `model`, or its method `forward`, gives for one black image of this side.

    The model computes in evaluation mode and then has the mode that it had. A UsageError if it
    takes no such image, as networks of a fixed size and images too small for the strides.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        return (forward or model)(torch.zeros(1, 3, side, side))
    except REFUSALS as error:
        raise UsageError(
            f"--arch {name} takes no images of {side} x {side} pixels ({in_brief(error)}): choose "
            "another --image_size, or leave it out for the network's own."
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training


def no_such_name(library: str, name: str, names: Sequence[str]) -> UsageError:
    """The sentence for a model that a library does not have.

    It suggests names that are the same up to the tag, or else the closest ones.
    """
    untagged = name.partition(".")[0]
    close = [other for other in names if other.startswith(f"{untagged}.")]
    close = close or difflib.get_close_matches(name, names)
    suggestions = " or ".join(repr(f"{library}.{other}") for other in close[:SUGGESTED])
    hint = f" Did you mean {suggestions}?" if close else ""
    return UsageError(
        f"--arch {library}.{name}: {library} has no model of this name.{hint} "
        f"python main.py --list {library} lists all {len(names)}."
    )
