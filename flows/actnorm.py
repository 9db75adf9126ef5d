"""Activation normalisation."""
import torch
from torch import Tensor, nn

from flows.base import Flow, log_det_of_channels


class ActNorm(Flow):
    """Activation normalisation (Kingma & Dhariwal, Glow, NeurIPS 2018, section 3.1):

        z = (x + bias) exp(log_scale),   log_det = H W sum log_scale

    The first batch in training mode sets bias and scale so that every channel of z has mean 0 and
    variance 1; after that they are parameters like others. x (B, C) or (B, C, H, W). Deviation: a
    channel that is constant in that batch keeps scale 1; dividing by its deviation would make all
    that follows huge.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))
        # so that the host reads the buffer only once
        self._known_initialised = False

    def forward(self, x, context=None):
        """x -> (x + bias) exp(log_scale)."""
        if self.training and not self._known_initialised and len(x):
            if not self.initialised:
                self._initialise(x)
            self._known_initialised = True
        scale = per_channel(self.log_scale, x).exp()
        z = (x + per_channel(self.bias, x)) * scale  # (B, ...)
        return z, log_det_of_channels(self.log_scale, x)

    def inverse(self, z, context=None):
        """z -> z exp(-log_scale) - bias."""
        scale = per_channel(-self.log_scale, z).exp()
        x = z * scale - per_channel(self.bias, z)  # (B, ...)
        return x, -log_det_of_channels(self.log_scale, z)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        channels = x.transpose(0, 1).flatten(1)  # (C, B H W)
        deviation = channels.std(1, correction=0)  # (C,)
        scale = torch.where(deviation > 1e-6, deviation.clamp(min=1e-3), 1)  # (C,)
        self.bias.copy_(-channels.mean(1))
        self.log_scale.copy_(-scale.log())
        self.initialised.fill_(True)

    def _load_from_state_dict(self, *arguments) -> None:
        super()._load_from_state_dict(*arguments)
        self._known_initialised = False


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """A (C,) parameter shaped to act on the channels of x (B, C) or (B, C, H, W)."""
    ones = [1] * (x.dim() - 2)
    return parameter.view(1, -1, *ones)
