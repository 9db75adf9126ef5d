"""Contextual memory: the context that an image would have in a batch, recalled from its embedding alone."""
import math

import torch
from torch import Tensor, nn

from flows import FLOWS, Flow
from flows.density import invert, log_prob
from flows.noise import counter_noise
from utilities.errors import UsageError
from utilities.pairwise import unit
from utilities.registry import accepted, lookup

DECODINGS = ("mode", "mean", "sample", "off")
BOUND = 0.95
NO_IMAGE = -1


class ContextualMemory(nn.Module):
    """The contract of a memory. The context of an image is c = sigmoid(u) in (0, 1)^D, u its logits.

    nll(u, e) is what it learns by; decode(e, noise) is the context c_hat that it recalls; `context` is what the network
    adds at test time, `training_context` what the second loss sees. A subclass writes `likelihood` and `recall`.
    decode: 'mode' (noise zero), 'mean' of `samples` draws (the same for all images), 'sample' (one draw by the image's
    index, so that it repeats), 'off' (nothing is added). temperature: standard deviation of the draws.
    """

    seed = 0                                                                       # of the noise at test time

    def __init__(self, decode: str = "mode", samples: int = 16, temperature: float = 0.6):
        super().__init__()
        if decode not in DECODINGS:
            raise UsageError(f"--memory_decode {decode}: there is no such way to decode. "
                             f"Choose one of: {', '.join(DECODINGS)}.")
        if not temperature >= 0 or samples < 1:
            raise UsageError(f"--memory_temperature {temperature} and --memory_samples {samples}: "
                             "pass a temperature of at least 0 and at least one sample.")
        self.decoding, self.samples, self.temperature = decode, samples, temperature

    def nll(self, context_logit: Tensor, embedding: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits u (B, D), embedding (B, D) -> loss per image in nats per dimension, (B,).

        Both are detached: a likelihood that could move its own data would shrink the context to a point.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            return self.likelihood(_data(context_logit), _data(embedding), generator)

    @torch.no_grad()
    def decode(self, embedding: Tensor, noise: Tensor | None = None) -> Tensor:
        """Embedding (B, D), noise (B, D) or None (zero: the mode) -> context (B, D) in (0, 1).

        Without gradient: the memory learns its likelihood and nothing else. If the metric loss reached it, it would
        be one more embedding layer, and what it recalls no longer the context.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            e = _data(embedding)
            return self.recall(e, torch.zeros_like(e) if noise is None else noise.to(e.dtype))

    def likelihood(self, logit: Tensor, embedding: Tensor, generator: torch.Generator | None) -> Tensor:
        """`nll` of detached tensors in full precision, (B, D), (B, D) -> (B,)."""
        raise NotImplementedError

    def recall(self, embedding: Tensor, noise: Tensor) -> Tensor:
        """`decode` of a detached embedding in full precision, (B, D), (B, D) -> (B, D)."""
        raise NotImplementedError

    def context(self, embedding: Tensor, index: Tensor | None = None) -> Tensor | None:
        """What to add at test time, (B, D), or None; row i depends on row i (and, for 'sample', its index) alone."""
        if self.decoding != "sample":
            return self._fixed(embedding)
        if index is None:
            raise UsageError("--memory_decode sample draws by the image's index: give `embed` the images' indices, or "
                             "pass --memory_decode mode.")
        noise = counter_noise(index.to(embedding.device), embedding.shape[1], seed=self.seed)
        return self.decode(embedding, self.temperature * noise)                    # (B, D)

    def training_context(self, embedding: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """As `context`, but 'sample' draws afresh."""
        if self.decoding != "sample":
            return self._fixed(embedding)
        noise = torch.randn(embedding.shape, device=embedding.device, generator=generator)
        return self.decode(embedding, self.temperature * noise)                    # (B, D)

    def _fixed(self, embedding: Tensor) -> Tensor | None:
        """The ways that need no draw of their own for each image."""
        if self.decoding == "off":
            return None
        return self.decode(embedding) if self.decoding == "mode" else self._mean(embedding)

    def draws(self, dim: int, device: torch.device) -> Tensor:
        """The noise of 'mean', the same for all images, (S, dim)."""
        draw = torch.arange(self.samples, device=device)
        return counter_noise(torch.full_like(draw, NO_IMAGE), dim, seed=self.seed, draw=draw)

    def _mean(self, embedding: Tensor) -> Tensor:
        noise = self.draws(embedding.shape[1], embedding.device)                   # (S, D)
        rows = noise[:, None].expand(-1, embedding.shape[0], -1).flatten(0, 1)     # (S B, D)
        decoded = self.decode(embedding.repeat(self.samples, 1), self.temperature * rows)
        return decoded.unflatten(0, (self.samples, embedding.shape[0])).mean(0)    # (B, D)


class FlowMemory(ContextualMemory):
    """A conditional flow of the logits u given unit(e); nll = -log p(u | unit(e)) / D."""

    def __init__(self, flow: Flow, **shared):
        super().__init__(**shared)
        self.flow = flow

    def likelihood(self, logit: Tensor, embedding: Tensor, generator: torch.Generator | None) -> Tensor:
        """(B, D), (B, D) -> (B,)."""
        x, log_det = self.to_flow(logit, generator)
        return -(log_prob(self.flow, x, unit(embedding)) + log_det) / x.shape[1]

    def recall(self, embedding: Tensor, noise: Tensor) -> Tensor:
        """(B, D), (B, D) -> (B, D)."""
        return self.from_flow(invert(self.flow, noise, unit(embedding)))

    def to_flow(self, logit: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Logits to the flow's input (B, D), and the log-determinant of that (B,)."""
        return logit, logit.new_zeros(len(logit))

    def from_flow(self, x: Tensor) -> Tensor:
        """The flow's output to a context in (0, 1); as wide as floats are, a sigmoid would round to its ends."""
        edge = torch.finfo(x.dtype).eps
        return x.sigmoid().clamp(edge, 1 - edge)                                   # (B, D)


class RealNVPMemory(FlowMemory):
    """The vector flow on logits: `couplings` couplings of `hidden` width."""

    def __init__(self, embed_dim: int, couplings: int = 6, hidden: int = 128, decode: str = "mode", samples: int = 16,
                 temperature: float = 0.6):
        super().__init__(FLOWS["realnvp"](embed_dim, embed_dim, couplings=couplings, hidden=hidden), decode=decode,
                         samples=samples, temperature=temperature)


class GlowMemory(FlowMemory):
    """The published memory: c as an 8-bit image, dequantised, through a bounded logit, into a conditional Glow.

    x = (min(floor(256 c), 255) + noise) / 256, y = ((2 x - 1) 0.95 + 1) / 2, input logit(y), as in RealNVP (Dinh et
    al., 2017, section 4.1); noise is uniform in training and 1/2 otherwise. log dx -> logit(y) is part of the nll, so
    that this is the density of x, per dimension. Deviation: 256 levels of equal width where the published code has
    255 c: x is then within 1/256 of c and inverting the logit gives c itself, without a bias.
    """

    def __init__(self, embed_dim: int, levels: int = 2, steps: int = 8, channels: int = 128, decode: str = "mode",
                 samples: int = 16, temperature: float = 0.6):
        flow = FLOWS["glow"](embed_dim, embed_dim, levels=levels, steps=steps, channels=channels)
        super().__init__(flow, decode=decode, samples=samples, temperature=temperature)

    def to_flow(self, logit: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, D) to bounded logits of the dequantised context, and the log-determinant from x."""
        level = (256 * logit.sigmoid()).floor().clamp(max=255)                     # (B, D)
        noise = torch.empty_like(level).uniform_(generator=generator) if self.training else 0.5
        y = ((2 * (level + noise) / 256 - 1) * BOUND + 1) / 2
        return y.logit(), (math.log(BOUND) - y.log() - (-y).log1p()).sum(1)        # (B, D), (B,)

    def from_flow(self, x: Tensor) -> Tensor:
        """Bounded logits back to (0, 1); the flow may leave the bounded range, the context keeps half a level off."""
        return (((2 * x.sigmoid() - 1) / BOUND + 1) / 2).clamp(1 / 512, 511 / 512)


class RegressionMemory(ContextualMemory):
    """A control that has one answer and no distribution: noise changes nothing; a subclass writes `prediction`."""

    def likelihood(self, logit: Tensor, embedding: Tensor, generator: torch.Generator | None) -> Tensor:
        """Half the squared error in c, mean over dimensions: a unit normal's nll but for its constant, (B,)."""
        return (logit.sigmoid() - self.prediction(embedding).sigmoid()).square().mean(1) / 2

    def recall(self, embedding: Tensor, noise: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return self.prediction(embedding).sigmoid()

    def prediction(self, embedding: Tensor) -> Tensor:
        """Embedding (B, D) -> logits (B, D)."""
        raise NotImplementedError


class ConstantMemory(RegressionMemory):
    """Control: one learned context for all images."""

    def __init__(self, embed_dim: int, decode: str = "mode", samples: int = 16, temperature: float = 0.6):
        super().__init__(decode=decode, samples=samples, temperature=temperature)
        self.logit = nn.Parameter(torch.zeros(embed_dim))

    def prediction(self, embedding: Tensor) -> Tensor:
        """The same, whatever the embedding."""
        return self.logit.expand_as(embedding)                                     # (B, D)


class MLPMemory(RegressionMemory):
    """Control: a two-layer regression from unit(e) to the context, `hidden` wide."""

    def __init__(self, embed_dim: int, hidden: int = 128, decode: str = "mode", samples: int = 16,
                 temperature: float = 0.6):
        super().__init__(decode=decode, samples=samples, temperature=temperature)
        self.net = nn.Sequential(nn.Linear(embed_dim, hidden), nn.ReLU(), nn.Linear(hidden, embed_dim))

    def prediction(self, embedding: Tensor) -> Tensor:
        """The network's answer."""
        return self.net(unit(embedding))                                           # (B, D)


def _data(x: Tensor) -> Tensor:
    """Detached, and in float32 where it came in half precision: log-determinants are sums over many dimensions."""
    return x.detach().float() if x.dtype in (torch.float16, torch.bfloat16) else x.detach()


MEMORIES = {"realnvp": RealNVPMemory, "glow": GlowMemory, "constant": ConstantMemory, "mlp": MLPMemory}


def select(name: str, embed_dim: int, **kwargs) -> ContextualMemory | None:
    """The memory called `name`, or None for 'none'; of the arguments it takes those that it knows."""
    if name == "none":
        return None
    cls = lookup(MEMORIES | {"none": None}, name, "memory", "--memory")
    return cls(embed_dim, **accepted(cls, kwargs))
