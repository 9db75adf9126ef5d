"""Affine couplings that see a context."""
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from flows.base import Flow, sum_rows


class Coupling(Flow):
    """Affine coupling: one half of the channels scales and shifts the other.

        x = (x1, x2),   z1 = x1,   z2 = (x2 + t) exp(s),   log_det = sum s

    swap exchanges the roles of the halves. A subclass computes s and t from x1 and the context.
    """

    def __init__(self, swap: bool):
        super().__init__()
        self.swap = swap

    def scale_and_shift(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The half that stays (B, ...), context -> s and t of the other half."""
        raise NotImplementedError

    def forward(self, x, context=None):
        """x and context of the same shape but for the channels."""
        seen, moved = self.in_order(*halves(x))
        s, t = self.scale_and_shift(seen, context)
        moved = (moved + t) * s.exp()
        z = torch.cat(self.in_order(seen, moved), 1)
        return z, sum_rows(s)

    def inverse(self, z, context=None):
        """The seen half is unchanged, so it gives the same scale and shift."""
        seen, moved = self.in_order(*halves(z))
        s, t = self.scale_and_shift(seen, context)
        moved = moved * (-s).exp() - t
        x = torch.cat(self.in_order(seen, moved), 1)
        return x, -sum_rows(s)

    def in_order(self, one, other) -> tuple:
        """First and second half as the seen and the moved one, or these as first and second."""
        return (other, one) if self.swap else (one, other)


class ConditionalCoupling(Coupling):
    """Conditional affine coupling of vectors (Dinh et al., RealNVP, ICLR 2017; conditioned as in
    Lu & Huang, 2020).

        (s', t) = net(x1, context),   s = 2 tanh(s' / 2)

    so that a step never scales by more than e^2 and the inverse stays exact. The last layer of the
    net is zero at the start: the identity.
    """

    def __init__(self, channels: int, context_channels: int, hidden: int, *, swap: bool = False):
        super().__init__(swap)
        seen, moved = self.in_order(channels - channels // 2, channels // 2)
        self.net = nn.Sequential(
            nn.Linear(seen + context_channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            zero(nn.Linear(hidden, 2 * moved)),
        )

    def scale_and_shift(self, seen, context):
        """(B, C'), (B, context) or None -> (B, C'') each."""
        if context is not None:
            seen = torch.cat([seen, context], 1)
        s, t = self.net(seen).chunk(2, dim=1)
        return 2 * (s / 2).tanh(), t


class ConvolutionalCoupling(Coupling):
    """The coupling of the published Glow, of images and contexts of the same height and width.

        (s', t) = net(x2, context),   s = a tanh(s'),   x1 is the half that moves

    with a learned scale a for each channel, one at the start. The net is ConditionedConvolutions.
    Its batch norm sees the whole batch in training; in evaluation every row is on its own.
    """

    def __init__(self, channels: int, context_channels: int, hidden: int):
        super().__init__(swap=True)
        half = channels // 2
        self.scale = nn.Parameter(torch.ones(half, 1, 1))
        self.net = ConditionedConvolutions(half, context_channels, hidden, 2 * half)

    def scale_and_shift(self, seen, context):
        """(B, C / 2, H, W), (B, context, H, W) -> (B, C / 2, H, W) each."""
        s, t = self.net(seen, context).chunk(2, dim=1)
        return self.scale * s.tanh(), t


class ConditionedConvolutions(nn.Module):
    """Convolutions of 3x3, 3x3, 1x1 and 3x3; the first three see the context beside their input.

    Batch norm stands before the first and after the second and third. The last starts at zero.
    (A convolution of two inputs side by side is the sum of one of each, as published.)
    """

    def __init__(self, inputs: int, context: int, hidden: int, outputs: int):
        super().__init__()
        self.norm_1 = nn.BatchNorm2d(inputs)
        self.conv_1 = convolution(inputs + context, hidden, 3)
        self.conv_2 = convolution(hidden + context, hidden, 3)
        self.norm_2 = nn.BatchNorm2d(hidden)
        self.conv_3 = convolution(hidden + context, hidden, 1)
        self.norm_3 = nn.BatchNorm2d(hidden)
        self.last = zero(nn.Conv2d(hidden, outputs, 3, padding=1))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, inputs, H, W), context (B, context, H, W) -> (B, outputs, H, W)."""
        h = torch.cat([self.norm_1(x), context], 1)
        h = torch.cat([relu(self.conv_1(h)), context], 1)
        h = torch.cat([relu(self.norm_2(self.conv_2(h))), context], 1)
        h = relu(self.norm_3(self.conv_3(h)))
        return self.last(h)


def convolution(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    """A convolution without bias that keeps height and width; its weights start at N(0, 0.05)."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.normal_(layer.weight, std=0.05)
    return layer


def zero(layer: nn.Module) -> nn.Module:
    """The layer with all parameters zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The channels in two parts, the first the larger where their number is odd."""
    second = x.shape[1] // 2
    first = x.shape[1] - second
    return torch.split(x, [first, second], dim=1)
