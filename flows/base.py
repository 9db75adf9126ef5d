"""The contract of every flow, and flows in a row."""
import math

from torch import Tensor, nn


class Flow(nn.Module):
    """An invertible map of x, optionally conditioned on a context; each row by itself.

    forward(x, context) -> (z, log_det) and inverse(z, context) -> (x, log_det). log_det is
    log |det d out / d in| of the direction called, always (B,). x and context are (B, D) or
    (B, C, H, W), as the flow says. B is read as x.shape[0]: len(x) would fix it in an exported
    graph.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent."""
        raise NotImplementedError

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The density of x (B, ...) with a standard normal latent, in nats, (B,):

            log p(x | context) = log N(z; 0, I) + log |det dz/dx|,   z = flow(x | context)
        """
        z, log_det = self(x, context)
        log_normal = -0.5 * (z.square() + math.log(2 * math.pi))
        return log_normal.flatten(1).sum(1) + log_det


class FlowStack(Flow):
    """Flows one after the other, all with the same context."""

    def __init__(self, *flows: Flow):
        super().__init__()
        self.flows = nn.ModuleList(flows)

    def forward(self, x, context=None):
        """The first flow first."""
        return _chain(self.flows, x, context)

    def inverse(self, z, context=None):
        """The last flow first."""
        inverses = [flow.inverse for flow in reversed(self.flows)]
        return _chain(inverses, z, context)


def _chain(steps, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    total = x.new_zeros(x.shape[0])  # (B,)
    for step in steps:
        x, log_det = step(x, context)
        total = total + log_det
    return x, total
