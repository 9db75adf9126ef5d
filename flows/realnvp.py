"""The vector flow."""
from torch import nn

from flows.actnorm import ActNorm
from flows.base import FlowStack
from flows.coupling import ConditionalCoupling
from flows.linear import InvertibleLinear


class RealNVP(FlowStack):
    """Conditional flow on vectors (B, D): `couplings` times [actnorm, LU linear map, conditional affine coupling],
    the couplings taking turns at which half they move. Context (B, context_dim)."""

    def __init__(self, dim: int, context_dim: int, couplings: int = 6, hidden: int = 128):
        layers: list[nn.Module] = []
        for i in range(couplings):
            layers += [ActNorm(dim), InvertibleLinear(dim),
                       ConditionalCoupling(dim, context_dim, hidden, swap=bool(i % 2))]
        super().__init__(*layers)
