"""Invertible linear maps of the channels."""
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from flows.base import Flow, log_det_of_channels


class InvertibleLinear(Flow):
    """z = W x for vectors, by its LU factors (Kingma & Dhariwal, Glow, 2018, section 3.2).

        W = P L (U + diag(sign exp(log_s))),   log_det = sum log_s

    P a fixed permutation, L unit lower, U strictly upper triangular; starts as a random rotation.
    x (B, C). The inverse solves two triangular systems. W is never formed: the factors act in
    turn, which for a batch smaller than C takes fewer operations than their product.
    Deviation: the parameters are sqrt(C) L and sqrt(C) U. Adam moves each entry by the learning
    rate, and C^2 of them together move W by C times that: at C = 512 and a rate of 1e-3 the
    likelihood diverged.
    """

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        # (P y)_i = y_order(i)
        self.register_buffer("order", permutation.argmax(1))
        self.register_buffer("sign", diagonal.sign())
        self.gain = channels**-0.5
        self.lower = nn.Parameter(lower.tril(-1) / self.gain)
        self.upper = nn.Parameter(upper.triu(1) / self.gain)
        self.log_s = nn.Parameter(diagonal.abs().log())

    def forward(self, x, context=None):
        """x -> W x."""
        ones = torch.ones_like(self.log_s)
        lower = self.gain * self.lower.tril(-1) + ones.diag()
        upper = self.gain * self.upper.triu(1) + self._diagonal().diag()
        columns = lower @ (upper @ x.T)  # (C, B)
        return columns.index_select(0, self.order).T, log_det_of_channels(self.log_s, x)

    def inverse(self, z, context=None):
        """z -> W^-1 z."""
        solve = torch.linalg.solve_triangular
        columns = z.T.index_select(0, self.order.argsort())  # (C, B)
        # each solver reads its own triangle alone
        columns = solve(self.gain * self.lower, columns, upper=False, unitriangular=True)
        upper = torch.diagonal_scatter(self.gain * self.upper, self._diagonal())
        columns = solve(upper, columns, upper=True)
        return columns.T, -log_det_of_channels(self.log_s, z)

    def _diagonal(self) -> Tensor:
        """Of U + diag(sign exp(log_s)), (C,)."""
        return self.sign * self.log_s.exp()


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
