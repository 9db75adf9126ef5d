"""The layers of the published Glow, on images."""
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from flows.base import Flow
from flows.layers import Coupling, log_det_of_channels, zero


class InvertibleConvolution(Flow):
    """The invertible 1x1 convolution of images (Kingma & Dhariwal, Glow, 2018, section 3.2).

        z = W x at every position,   log_det = H W log |det W|

    W (C, C) starts as a random rotation; x (B, C, H, W). W is inverted in float64, as in the
    published code.
    """

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        self.weight = nn.Parameter(rotation)

    def forward(self, x, context=None):
        """x -> W x at every position."""
        return conv2d(x, self.weight[:, :, None, None]), self._log_det(x)

    def inverse(self, z, context=None):
        """z -> W^-1 z at every position."""
        matrix = self.inverse_matrix().to(z.dtype)
        return conv2d(z, matrix[:, :, None, None]), -self._log_det(z)

    def inverse_matrix(self) -> Tensor:
        """W^-1 in float64, (C, C); a GPU is not waited for."""
        return torch.linalg.inv_ex(self.weight.double())[0]

    def _log_det(self, x: Tensor) -> Tensor:
        return log_det_of_channels(torch.linalg.slogdet(self.weight)[1], x)


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
