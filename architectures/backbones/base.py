"""What a backbone is: an image goes in, a feature map comes out; pooling and everything after it is the Network's."""
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utilities.errors import UsageError, in_brief

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Backbone:
    """A network without its classifier, and how its images are to be prepared.

    trunk maps (B, 3, H, W) to (B, feature_dim, h, w), or with `pooled` to (B, feature_dim): a network on tokens pools
    them itself. Its images have sides of `image_size` where nothing else is asked for, channels in the order of
    `channels` (RGB or BGR), and values from 0 to `value_range` before mean and std, which are per channel in that
    order.
    """

    trunk: nn.Module
    feature_dim: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_size: int = 224
    channels: str = "RGB"
    value_range: float = 1.0
    pooled: bool = False


@torch.no_grad()
def outcome(model: nn.Module, name: str, side: int, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """What `model`, or its method `forward`, gives for one image of this side, in evaluation mode; its own mode stays.

    A UsageError where it takes no such image, as networks of a fixed size and images too small for the strides.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        return (forward or model)(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError, ValueError, IndexError, TypeError) as error:   # as the libraries raise them
        raise UsageError(f"--arch {name} takes no images of {side} x {side} pixels ({in_brief(error)}): choose another "
                         "--image_size, or leave it out for the network's own.") from error
    finally:
        for module, training in modes.items():
            module.training = training


def no_such_name(library: str, name: str, names: Sequence[str]) -> UsageError:
    """The sentence for a model that a library does not have, with its names that are the same up to the tag, or the
    closest."""
    tagged = [other for other in names if other.startswith(f"{name.partition('.')[0]}.")]
    close = " or ".join(repr(f"{library}.{other}") for other in (tagged or difflib.get_close_matches(name, names))[:3])
    hint = f" Did you mean {close}?" if close else ""
    return UsageError(f"--arch {library}.{name}: {library} has no model of this name.{hint} "
                      f"python main.py --list {library} lists all {len(names)}.")
