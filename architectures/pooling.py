"""Pooling: a feature map becomes one vector an image."""
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from utilities.registry import lookup

DEFAULT = "avg+max"
# That of the library: a backbone then pools itself, where the library has more than an average.
OWN = "own"


class Pooling(nn.Module):
    """A function of the map without parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, F, h, w) -> (B, F)"""
        return self.function(feature_map)


class GeM(nn.Module):
    """Generalised mean with one learnable p for all channels, which starts at 3.

        f_k = (mean_{x in X_k} x^p)^(1/p),    X_k: the values of channel k, at least `eps`

    Radenovic, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI
    2018, eq. 4. p = 1 is the average, p to infinity the maximum; p is kept at 1 or more. Computed
    as m (mean (x / m)^p)^(1/p) with m the maximum of the channel, which is the same for every m and
    whose powers cannot overflow in float32.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, F, h, w) -> (B, F)"""
        # The gradient passes the clamp, so that a p below 1 can still come back.
        value = self.p.detach()
        p = self.p + (value.clamp(min=1) - value)
        x = feature_map.clamp(min=self.eps)
        m = x.detach().amax((2, 3))  # (B, F)
        mean = (x / m[:, :, None, None]).pow(p).mean((2, 3))  # (B, F)
        return m * mean.pow(1 / p)


def average(feature_map: Tensor) -> Tensor:
    """Average over the places, (B, F, h, w) -> (B, F)"""
    return adaptive_avg_pool2d(feature_map, 1).flatten(1)


def maximum(feature_map: Tensor) -> Tensor:
    """Maximum over the places, (B, F, h, w) -> (B, F)"""
    return adaptive_max_pool2d(feature_map, 1).flatten(1)


def both(feature_map: Tensor) -> Tensor:
    """Average plus maximum, as in the published code, (B, F, h, w) -> (B, F)"""
    return average(feature_map) + maximum(feature_map)


def own(feature_map: Tensor) -> Tensor:
    """The library's own pooling, which its models do themselves; else the average,
    (B, F, h, w) -> (B, F)
    """
    return average(feature_map)


POOLINGS: dict[str, Callable[[Tensor], Tensor] | type[nn.Module]] = {
    "avg": average,
    "avg+max": both,
    "gem": GeM,
    "max": maximum,
    "own": own,
}


def select(name: str | None) -> nn.Module:
    """The pooling called `name`; None: average plus maximum."""
    pooling = lookup(POOLINGS, name or DEFAULT, "pooling", "--pooling")
    return pooling() if isinstance(pooling, type) else Pooling(pooling)
