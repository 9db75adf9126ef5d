"""The vector flow."""
from flows.base import FlowStack
from flows.layers import ActNorm, ConditionalCoupling, InvertibleLinear


class RealNVP(FlowStack):
    """Conditional flow on vectors (B, D), context (B, context_dim).

    `couplings` times [actnorm, LU linear map, conditional affine coupling]; the couplings take
    turns at which half they move.
    """

    def __init__(self, dim: int, context_dim: int, couplings: int = 6, hidden: int = 128):
        flows = []
        for number in range(couplings):
            swap = number % 2 == 1
            flows.append(ActNorm(dim))
            flows.append(InvertibleLinear(dim))
            flows.append(ConditionalCoupling(dim, context_dim, hidden, swap=swap))
        super().__init__(*flows)
