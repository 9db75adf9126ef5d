"""Activation normalisation."""
import torch
from torch import Tensor, nn

from flows.base import Flow, per_channel, pixels


class ActNorm(Flow):
    """Activation normalisation (Kingma & Dhariwal, Glow, NeurIPS 2018, section 3.1): z = (x + bias) exp(log_scale).

    The first batch in training mode sets bias and scale so that every channel of z has mean 0 and variance 1; after
    that they are parameters like others. x (B, C) or (B, C, H, W); log_det = H W sum log_scale. Deviation: a channel
    that is constant in that batch keeps scale 1, where dividing by its spread would blow up whatever comes next.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.bias, self.log_scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))
        self._settled = False                                                      # the host asks the buffer only once

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x -> (x + bias) exp(log_scale)."""
        if self.training and not self._settled and len(x):
            if not self.initialised:
                self._initialise(x)
            self._settled = True
        z = (x + per_channel(self.bias, x)) * per_channel(self.log_scale, x).exp()
        return z, (pixels(x) * self.log_scale.sum()).expand(x.shape[0])  # (B, ...), (B,)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> z exp(-log_scale) - bias."""
        x = z * per_channel(-self.log_scale, z).exp() - per_channel(self.bias, z)
        return x, (-pixels(z) * self.log_scale.sum()).expand(z.shape[0])  # (B, ...), (B,)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        channels = x.transpose(0, 1).flatten(1)  # (C, B H W)
        spread = channels.std(1, correction=0)  # (C,)
        self.bias.copy_(-channels.mean(1))
        self.log_scale.copy_(-torch.where(spread > 1e-6, spread.clamp(min=1e-3), 1).log())
        self.initialised.fill_(True)

    def _load_from_state_dict(self, *arguments) -> None:
        super()._load_from_state_dict(*arguments)
        self._settled = False                                                      # it may have changed: ask again
