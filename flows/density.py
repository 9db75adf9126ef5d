"""A flow as a conditional density, with a standard normal base."""
import math

from torch import Tensor

from flows.base import Flow, sum_rows


def log_prob(flow: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
    """log p(x | context) = log N(z; 0, I) + log |det dz/dx|, z = flow(x | context), in nats.

    x (B, ...) -> (B,).
    """
    z, log_det = flow(x, context)
    log_normal = -0.5 * (z.square() + math.log(2 * math.pi))
    return sum_rows(log_normal) + log_det  # (B,)


def invert(flow: Flow, noise: Tensor, context: Tensor | None = None) -> Tensor:
    """The point whose latent is `noise` (B, ...); zero noise gives the image of the base's mode."""
    return flow.inverse(noise, context)[0]  # (B, ...)
