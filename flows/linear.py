"""Invertible linear maps of the channels."""
import torch
from torch import Tensor, nn

from flows.base import Flow, pixels


class InvertibleLinear(Flow):
    """z = W x for vectors, the invertible 1x1 convolution for images (Kingma & Dhariwal, Glow, 2018, section 3.2).

    W = P L (U + diag(sign exp(log_s))), P a fixed permutation, L unit lower, U strictly upper triangular; starts as a
    random rotation. x (B, C) or (B, C, H, W); log_det = H W sum log_s. The inverse solves two triangular systems. W is
    never formed: the factors act in turn, which for a batch smaller than C takes fewer operations than their product.
    Deviation: the parameters are sqrt(C) L and sqrt(C) U. Adam moves each entry by the learning rate and C^2 of them in
    concert move W by C times that, which at C = 512 and a rate of 1e-3 made the likelihood diverge.
    """

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("order", permutation.argmax(1))  # (P y)_i = y_order(i)
        self.register_buffer("sign", diagonal.sign())
        self.gain = channels**-0.5
        self.lower, self.upper = nn.Parameter(lower.tril(-1) / self.gain), nn.Parameter(upper.triu(1) / self.gain)
        self.log_s = nn.Parameter(diagonal.abs().log())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x -> W x at every position."""
        lower, upper = self._factors()
        columns = (lower @ (upper @ _columns(x)))[self.order]  # (C, B H W)
        return _rows(columns, x), (pixels(x) * self.log_s.sum()).expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> W^-1 z at every position."""
        lower, upper = self._factors()
        columns = _columns(z)[self.order.argsort()]  # (C, B H W)
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        return _rows(columns, z), (-pixels(z) * self.log_s.sum()).expand(z.shape[0])

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.log_s), dtype=self.lower.dtype, device=self.lower.device)
        lower = self.gain * self.lower.tril(-1) + identity  # (C, C)
        return lower, self.gain * self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp())  # (C, C) each


def _columns(x: Tensor) -> Tensor:
    """Every position of every row as a column, (C, B H W)."""
    return x.transpose(0, 1).flatten(1)


def _rows(columns: Tensor, like: Tensor) -> Tensor:
    """Columns back to the shape of `like`."""
    return columns.unflatten(1, (like.shape[0], *like.shape[2:])).transpose(0, 1)  # (B, C, ...)
