"""The layers of the vector flow: activation normalisation, a linear map, a coupling with a context."""
import torch
from torch import Tensor, nn

from flows.base import Flow


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
        y = (self._diagonal() * x).addmm(x, self.upper.triu(1).T, alpha=self.gain)
        y = y.addmm(y, self.lower.tril(-1).T, alpha=self.gain)
        return y.index_select(1, self.order), log_det_of_channels(self.log_s, x)

    def inverse(self, z, context=None):
        """z -> W^-1 z."""
        solve = torch.linalg.solve_triangular
        y = z.index_select(1, self.order.argsort())
        # each solver reads its own triangle alone
        y = solve(self.gain * self.lower.T, y, upper=True, left=False, unitriangular=True)
        upper = torch.diagonal_scatter(self.gain * self.upper, self._diagonal())
        x = solve(upper.T, y, upper=False, left=False)
        return x, -log_det_of_channels(self.log_s, z)

    def _diagonal(self) -> Tensor:
        """Of U + diag(sign exp(log_s)), (C,)."""
        return self.sign * self.log_s.exp()


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
        return z, s.flatten(1).sum(1)

    def inverse(self, z, context=None):
        """The seen half is unchanged, so it gives the same scale and shift."""
        seen, moved = self.in_order(*halves(z))
        s, t = self.scale_and_shift(seen, context)
        moved = moved * (-s).exp() - t
        x = torch.cat(self.in_order(seen, moved), 1)
        return x, -s.flatten(1).sum(1)

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


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """A (C,) parameter shaped to act on the channels of x (B, C) or (B, C, H, W)."""
    ones = [1] * (x.dim() - 2)
    return parameter.view(1, -1, *ones)


def log_det_of_channels(log_scale: Tensor, x: Tensor) -> Tensor:
    """log_det of a map that scales the channels (C,) of x at each of its positions, (B,)."""
    positions = x.shape[2:].numel()
    return (positions * log_scale.sum()).expand(x.shape[0])


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
