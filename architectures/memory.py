"""Contextual memory: decodes from an embedding alone the context that a batch would give it.

What it learns is chosen in criteria/method/memory_target.py.
"""
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flows import FLOWS, Flow
from flows.noise import counter_noise
from utilities.errors import UsageError
from utilities.pairwise import unit
from utilities.registry import accepted, known_name, lookup

Condition = Callable[[Tensor], Tensor]
DECODINGS = ("mode", "mean", "sample", "off")
BOUND = 0.95
NO_IMAGE = -1


class ContextualMemory(nn.Module):
    """The contract of a memory. An image's context is c = sigmoid(u) in (0, 1)^D, u its logits.

    nll(u, e) is the memory's loss; decode(e, noise) gives the decoded context c_hat. `context` is
    what the network adds at test time, `training_context` what the second loss sees. A subclass
    writes `compute_nll` and `decode_context`, for tensors that are detached and in full precision.

    decode: 'mode' (noise zero), 'mean' of `samples` draws (the same for all images), 'sample' (one
    draw by the image's index, so that it repeats), 'off' (nothing is added). temperature: standard
    deviation of the draws. gradient: whether the second loss trains the memory and, through what
    it is conditioned on, the embedding (as published); else it learns its nll and nothing else.
    """

    # Of the noise at test time.
    seed = 0

    def __init__(
        self,
        decode: str = "mode",
        samples: int = 16,
        temperature: float = 0.6,
        gradient: bool = False,
    ):
        super().__init__()
        known_name(decode, DECODINGS, "way to decode", "--memory_decode")
        if not temperature >= 0 or samples < 1:
            raise UsageError(
                f"--memory_temperature {temperature} and --memory_samples {samples}: "
                "pass a temperature of at least 0 and at least one sample."
            )
        self.decoding = decode
        self.samples = samples
        self.temperature = temperature
        self.gradient = gradient

    def nll(self, logit: Tensor, embedding: Tensor) -> Tensor:
        """Context logits u (B, D), embedding (B, D) -> loss in nats per dimension, (B,).

        Both are detached: a likelihood that could move its own data would shrink the context to a
        point.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            u = _widened(logit.detach())
            e = _widened(embedding.detach())
            return self.compute_nll(u, e)

    def decode(self, embedding: Tensor, noise: Tensor | None = None) -> Tensor:
        """Embedding (B, D), noise (B, D) or None (zero: the mode) -> context (B, D) in (0, 1).

        Without gradient, but where `gradient` is set: with a gradient of the metric loss the memory
        is one more embedding layer, and decodes less of the context.
        """
        wanted = self.gradient and torch.is_grad_enabled()
        with torch.set_grad_enabled(wanted), torch.autocast(embedding.device.type, enabled=False):
            e = _widened(embedding)
            noise = torch.zeros_like(e) if noise is None else noise.to(e.dtype)
            return self.decode_context(e, noise)

    def compute_nll(self, logit: Tensor, embedding: Tensor) -> Tensor:
        """(B, D), (B, D) -> (B,)."""
        raise NotImplementedError

    def decode_context(self, embedding: Tensor, noise: Tensor) -> Tensor:
        """(B, D), (B, D) -> (B, D) in (0, 1)."""
        raise NotImplementedError

    @property
    def tells_images_apart(self) -> bool:
        """Whether what it decodes depends on the image."""
        return self.decoding != "off"

    def context(self, embedding: Tensor, index: Tensor | None = None) -> Tensor | None:
        """What to add at test time, (B, D), or None.

        Row i depends on row i alone, and with 'sample' on its index.
        """
        if self.decoding != "sample":
            return self._repeatable_context(embedding)
        if index is None:
            raise UsageError(
                "--memory_decode sample draws by the image's index: give `embed` the images' "
                "indices, or pass --memory_decode mode."
            )
        index = index.to(embedding.device)
        noise = counter_noise(index, embedding.shape[1], seed=self.seed)  # (B, D)
        return self.decode(embedding, self.temperature * noise)

    def training_context(self, embedding: Tensor) -> Tensor | None:
        """As `context`, but 'sample' draws new noise at each call."""
        if self.decoding != "sample":
            return self._repeatable_context(embedding)
        noise = torch.randn(embedding.shape, device=embedding.device)
        return self.decode(embedding, self.temperature * noise)

    def _repeatable_context(self, embedding: Tensor) -> Tensor | None:
        """The ways to decode that draw nothing for each image."""
        if self.decoding == "off":
            return None
        if self.decoding == "mode":
            return self.decode(embedding)
        rows, dim = embedding.shape
        noise = self.mean_noise(dim, embedding.device)  # (S, D)
        noise = noise[:, None].expand(-1, rows, -1).flatten(0, 1)  # (S B, D)
        repeated = embedding.repeat(self.samples, 1)  # (S B, D)
        decoded = self.decode(repeated, self.temperature * noise)
        return decoded.unflatten(0, (self.samples, rows)).mean(0)  # (B, D)

    def mean_noise(self, dim: int, device: torch.device) -> Tensor:
        """The draws of 'mean', the same for all images, (S, dim)."""
        draw = torch.arange(self.samples, device=device)
        no_image = torch.full_like(draw, NO_IMAGE)
        return counter_noise(no_image, dim, seed=self.seed, draw=draw)


def _widened(x: Tensor) -> Tensor:
    """Half precision as float32: log-determinants sum over many dimensions."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def scaled(embedding: Tensor) -> Tensor:
    """sqrt(D) unit(e), whose entries have a mean square of 1."""
    return embedding.shape[1] ** 0.5 * unit(embedding)


def raw(embedding: Tensor) -> Tensor:
    """The embedding itself."""
    return embedding


# What a memory sees of the embedding.
CONDITIONS: dict[str, Condition] = {"unit": unit, "scaled": scaled, "raw": raw}


class FlowMemory(ContextualMemory):
    """A conditional flow of the logits u given what it sees of e; nll = -log p(u | e) / D."""

    # one of CONDITIONS
    condition: Condition

    def __init__(self, flow: Flow, **decoding):
        super().__init__(**decoding)
        self.flow = flow

    def compute_nll(self, logit: Tensor, embedding: Tensor) -> Tensor:
        """(B, D), (B, D) -> (B,)."""
        x, log_det = self.to_flow(logit)
        log_prob = self.flow.log_prob(x, self.condition(embedding))  # (B,)
        return -(log_prob + log_det) / x.shape[1]

    def decode_context(self, embedding: Tensor, noise: Tensor) -> Tensor:
        """(B, D), (B, D) -> (B, D); far out, a sigmoid in floats would be 0 or 1."""
        x, _ = self.flow.inverse(noise, self.condition(embedding))
        edge = torch.finfo(x.dtype).eps
        return x.sigmoid().clamp(edge, 1 - edge)

    def to_flow(self, logit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits to the flow's input (B, D), and the log-determinant of that (B,)."""
        return logit, logit.new_zeros(len(logit))


class RealNVPMemory(FlowMemory):
    """The vector flow on logits: `couplings` couplings of `hidden` width."""

    def __init__(
        self,
        embed_dim: int,
        couplings: int = 6,
        hidden: int = 128,
        condition: str = "unit",
        **decoding,
    ):
        flow = FLOWS["realnvp"](embed_dim, embed_dim, couplings=couplings, hidden=hidden)
        super().__init__(flow, **decoding)
        self.condition = CONDITIONS[condition]


class GlowMemory(FlowMemory):
    """The published memory: Glow on the context as an image, given e as it is.

        x = (255 c + noise) / 256,    y = ((2 x - 1) 0.95 + 1) / 2,    Glow sees logit(y)
        c_hat = sigmoid(Glow^-1(n | e))

    as in RealNVP (Dinh et al., 2017, section 4.1); noise is uniform in training and 1/2 otherwise.
    log dx -> logit(y) is part of the nll, which is the density of x, per dimension. Decoding leaves
    the bound in, as published: c_hat is 0.95 of c, around 1/2. Deviation: the published nll has ln
    256 more for each dimension, a constant.
    """

    def __init__(
        self, embed_dim: int, levels: int = 2, steps: int = 8, channels: int = 128, **decoding
    ):
        size = {"levels": levels, "steps": steps, "channels": channels}
        super().__init__(FLOWS["glow"](embed_dim, embed_dim, **size), **decoding)
        self.condition = raw

    def to_flow(self, logit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, D) to bounded logits of the dequantised context, and the log-determinant."""
        noise = 0.5
        if self.training:
            noise = torch.empty_like(logit).uniform_()  # (B, D)
        x = (255 * logit.sigmoid() + noise) / 256  # (B, D)
        y = ((2 * x - 1) * BOUND + 1) / 2  # (B, D)
        log_slope = math.log(BOUND) - y.log() - (-y).log1p()  # (B, D)
        return y.logit(), log_slope.sum(1)  # (B, D), (B,)


class RegressionMemory(ContextualMemory):
    """A control with one answer and no distribution: noise changes nothing.

    A subclass writes `predict_logit`, embedding (B, D) -> logits (B, D).
    """

    def compute_nll(self, logit: Tensor, embedding: Tensor) -> Tensor:
        """Half the mean squared error in c, (B,): a unit normal's nll but for its constant."""
        error = logit.sigmoid() - self.predict_logit(embedding).sigmoid()  # (B, D)
        return error.square().mean(1) / 2

    def decode_context(self, embedding: Tensor, noise: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return self.predict_logit(embedding).sigmoid()


class ConstantMemory(RegressionMemory):
    """Control: one learned context for all images."""

    tells_images_apart = False

    def __init__(self, embed_dim: int, **decoding):
        super().__init__(**decoding)
        self.logit = nn.Parameter(torch.zeros(embed_dim))

    def predict_logit(self, embedding: Tensor) -> Tensor:
        """The same, whatever the embedding, (B, D)."""
        return self.logit.expand_as(embedding)


class MLPMemory(RegressionMemory):
    """Control: a two-layer regression from what `condition` makes of e to the context, `hidden` wide."""

    def __init__(
        self, embed_dim: int, hidden: int = 128, condition: str = "unit", **decoding
    ):
        super().__init__(**decoding)
        self.condition = CONDITIONS[condition]
        first = nn.Linear(embed_dim, hidden)
        self.net = nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, embed_dim))

    def predict_logit(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return self.net(self.condition(embedding))


MEMORIES: dict[str, type[ContextualMemory]] = {
    "realnvp": RealNVPMemory,
    "glow": GlowMemory,
    "constant": ConstantMemory,
    "mlp": MLPMemory,
}


def select(name: str, embed_dim: int, **arguments) -> ContextualMemory | None:
    """The memory called `name`, or None for 'none'; arguments that it does not have are ignored."""
    if name == "none":
        return None
    memory = lookup(MEMORIES | {"none": None}, name, "memory", "--memory")
    known = accepted(ContextualMemory, arguments) | accepted(memory, arguments)
    return memory(embed_dim, **known)
