"""Affine couplings that see a context."""
import torch
from torch import Tensor, nn

from flows.base import Flow, halves, sum_rows


class ConditionalCoupling(Flow):
    """Conditional affine coupling (Dinh et al., RealNVP, ICLR 2017; conditioned as in Lu & Huang, 2020).

    x = (x1, x2): z1 = x1, z2 = (x2 + t) exp(s), (s, t) = net(x1, context), s = 2 tanh(s' / 2), so that a step never
    scales by more than e^2 and the inverse stays exact. swap exchanges the halves' roles. The last layer of the net is
    zero at the start: the identity. log_det = sum s. Vectors: an MLP; images: 3x3, 1x1, 3x3 convolutions.
    """

    def __init__(self, channels: int, context_channels: int, hidden: int, *, image: bool = False, swap: bool = False):
        super().__init__()
        self.swap = swap
        first, second = channels - channels // 2, channels // 2
        seen, moved = (second, first) if swap else (first, second)
        if image:
            layers = [nn.Conv2d(seen + context_channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1),
                      nn.ReLU(), nn.Conv2d(hidden, 2 * moved, 3, padding=1)]
        else:
            layers = [nn.Linear(seen + context_channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                      nn.Linear(hidden, 2 * moved)]
        self.net = nn.Sequential(*layers)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and context of the same shape but for the channels."""
        seen, moved = self._split(x)
        s, t = self._scale_and_shift(seen, context)
        return self._join(seen, (moved + t) * s.exp()), sum_rows(s)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The seen half is unchanged, so that the same scale and shift are at hand."""
        seen, moved = self._split(z)
        s, t = self._scale_and_shift(seen, context)
        return self._join(seen, moved * (-s).exp() - t), -sum_rows(s)

    def _scale_and_shift(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        s, t = self.net(seen if context is None else torch.cat([seen, context], 1)).chunk(2, dim=1)
        return 2 * (s / 2).tanh(), t

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = halves(x)
        return (second, first) if self.swap else (first, second)

    def _join(self, seen: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, seen] if self.swap else [seen, moved], 1)
