"""Affine couplings that see a context."""
import torch
from torch import Tensor, nn

from flows.base import Flow, sum_rows


class ConditionalCoupling(Flow):
    """Conditional affine coupling (Dinh et al., RealNVP, ICLR 2017; conditioned as in Lu & Huang,
    2020).

        x = (x1, x2),   z1 = x1,   z2 = (x2 + t) exp(s),   log_det = sum s
        (s', t) = net(x1, context),   s = 2 tanh(s' / 2)

    so that a step never scales by more than e^2 and the inverse stays exact. swap exchanges the
    roles of the halves. The last layer of the net is zero at the start: the identity. Vectors: an
    MLP; images: 3x3, 1x1, 3x3 convolutions.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        hidden: int,
        *,
        image: bool = False,
        swap: bool = False,
    ):
        super().__init__()
        self.swap = swap
        seen, moved = self._in_order(channels - channels // 2, channels // 2)
        make = image_net if image else vector_net
        self.net = make(seen + context_channels, hidden, 2 * moved)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x, context=None):
        """x and context of the same shape but for the channels."""
        seen, moved = self._in_order(*halves(x))
        s, t = self._scale_and_shift(seen, context)
        moved = (moved + t) * s.exp()
        z = torch.cat(self._in_order(seen, moved), 1)
        return z, sum_rows(s)

    def inverse(self, z, context=None):
        """The seen half is unchanged, so it gives the same scale and shift."""
        seen, moved = self._in_order(*halves(z))
        s, t = self._scale_and_shift(seen, context)
        moved = moved * (-s).exp() - t
        x = torch.cat(self._in_order(seen, moved), 1)
        return x, -sum_rows(s)

    def _in_order(self, one, other) -> tuple:
        """First and second half as the seen and the moved one, or these as first and second."""
        return (other, one) if self.swap else (one, other)

    def _scale_and_shift(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if context is not None:
            seen = torch.cat([seen, context], 1)
        s, t = self.net(seen).chunk(2, dim=1)
        return 2 * (s / 2).tanh(), t


def vector_net(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three linear layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


def image_net(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Convolutions of 3x3, 1x1 and 3x3."""
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, outputs, 3, padding=1),
    )


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The channels in two parts, the first the larger where their number is odd."""
    second = x.shape[1] // 2
    first = x.shape[1] - second
    return torch.split(x, [first, second], dim=1)
