"""The published conditional Glow."""
import torch
from torch import Tensor, nn

from flows.actnorm import ActNorm
from flows.base import Flow, FlowStack
from flows.coupling import ConditionalCoupling
from flows.linear import InvertibleLinear
from flows.squeeze import Squeeze
from utilities.errors import UsageError

HEIGHT = 16


class Glow(Flow):
    """Conditional Glow (Kingma & Dhariwal, NeurIPS 2018; conditional as in Lu & Huang, 2020) on a vector as an image.

    x (B, D) is read as a 1 x 16 x D/16 image, the context (B, D) alike. Each of `levels` squeezes 2x2 blocks to
    channels, takes `steps` steps of [actnorm, invertible 1x1 convolution, conditional affine coupling with `channels`
    hidden channels] and, but for the last level, puts half of the channels aside. The latent is (B, D).
    """

    def __init__(self, dim: int, context_dim: int, levels: int = 2, steps: int = 8, channels: int = 128):
        super().__init__()
        width, side = dim // HEIGHT, 2**levels
        if HEIGHT % side:
            raise UsageError(f"--memory_levels {levels}: an image of {HEIGHT} rows can be halved at most 4 times; pass "
                             "--memory_levels 2.")
        if dim % HEIGHT or width % side or not width:
            raise UsageError(f"--memory glow reads the embedding as a 16 x D/16 image and halves its sides {levels} "
                             f"times, which --embed_dim {dim} does not allow: pass a multiple of {HEIGHT * side}.")
        if context_dim != dim:
            raise ValueError(f"the context is read as an image of the same size: {context_dim} is not {dim}")
        self.shape, self.squeeze = (1, HEIGHT, width), Squeeze()
        self.levels, size, context = nn.ModuleList(), 1, 1
        for _ in range(levels):
            size, context = 4 * size, 4 * context
            self.levels.append(FlowStack(*(layer for _ in range(steps) for layer in (
                ActNorm(size), InvertibleLinear(size), ConditionalCoupling(size, context, channels, image=True)))))
            size //= 2

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, D), context (B, D) -> latent (B, D), log_det (B,)."""
        image, condition, parts = x.unflatten(1, self.shape), context.unflatten(1, self.shape), []
        total = x.new_zeros(x.shape[0])
        for number, level in enumerate(self.levels, start=1):
            image, condition = self.squeeze(image)[0], self.squeeze(condition)[0]  # (B, 4 C, H / 2, W / 2) each
            image, log_det = level(image, condition)
            total = total + log_det
            if number < len(self.levels):
                image, aside = image.chunk(2, dim=1)
                parts.append(aside.flatten(1))
        return torch.cat([*parts, image.flatten(1)], 1), total  # (B, D), (B,)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent (B, D), context (B, D) -> x (B, D), log_det (B,)."""
        conditions = [self.squeeze(context.unflatten(1, self.shape))[0]]
        for _ in self.levels[1:]:
            conditions.append(self.squeeze(conditions[-1])[0])
        *asides, image = self._parts(z)
        total = z.new_zeros(z.shape[0])
        for number, (level, condition) in enumerate(reversed(list(zip(self.levels, conditions)))):
            if number > 0:
                image = torch.cat([image, asides.pop()], 1)
            image, log_det = level.inverse(image, condition)
            total = total + log_det
            image = self.squeeze.inverse(image)[0]
        return image.flatten(1), total  # (B, D), (B,)

    def _parts(self, z: Tensor) -> list[Tensor]:
        """The latent as images: what each level but the last put aside, then what the last one kept."""
        channels, height, width = self.shape
        parts, start = [], 0
        for number in range(1, len(self.levels) + 1):
            channels, height, width = 4 * channels, height // 2, width // 2
            if number < len(self.levels):
                channels //= 2
            size = channels * height * width
            parts.append(z[:, start:start + size].unflatten(1, (channels, height, width)))
            start += size
        return parts
