"""The published conditional Glow."""
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from flows.base import Flow, FlowStack
from flows.image_layers import ConvolutionalCoupling, InvertibleConvolution
from flows.layers import ActNorm
from utilities.errors import UsageError

HEIGHT = 16


class Glow(Flow):
    """Conditional Glow (Kingma & Dhariwal, NeurIPS 2018; conditional as in Lu & Huang, 2020) on a
    vector as an image.

    x (B, D) is read as a 1 x 16 x D/16 image, the context (B, D) alike. Each of `levels` takes 2x2
    blocks to channels (RealNVP, section 3.6), then `steps` steps of [actnorm, invertible 1x1
    convolution, ConvolutionalCoupling with `channels` hidden channels] and, but for the last level,
    puts half of the channels aside. The latent is (B, D).
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        levels: int = 2,
        steps: int = 8,
        channels: int = 128,
    ):
        super().__init__()
        _refuse_other_sizes(dim, context_dim, levels)
        self.shape = (1, HEIGHT, dim // HEIGHT)
        self.levels = nn.ModuleList()
        # the channels that every level adds to the latent
        self.added = []
        size = 1
        for level in range(levels):
            size = 4 * size
            context = 4 ** (level + 1)
            self.levels.append(_steps(steps, size, context, channels))
            if level < levels - 1:
                size //= 2
            self.added.append(size)

    def forward(self, x, context=None):
        """x (B, D), context (B, D) -> latent (B, D), log_det (B,)."""
        image = x.unflatten(1, self.shape)  # (B, 1, 16, D / 16)
        condition = context.unflatten(1, self.shape)
        total = x.new_zeros(x.shape[0])
        parts = []
        for number, level in enumerate(self.levels):
            if number > 0:
                image, aside = image.chunk(2, dim=1)
                parts.append(aside)
            image = pixel_unshuffle(image, 2)  # (B, 4 C, H / 2, W / 2)
            condition = pixel_unshuffle(condition, 2)
            image, log_det = level(image, condition)
            total = total + log_det
        parts.append(image)
        latent = torch.cat([part.flatten(1) for part in parts], 1)
        return latent, total

    def inverse(self, z, context=None):
        """Latent (B, D), context (B, D) -> x (B, D), log_det (B,)."""
        condition = context.unflatten(1, self.shape)
        conditions = []
        for _ in self.levels:
            condition = pixel_unshuffle(condition, 2)
            conditions.append(condition)
        *asides, image = self._parts(z)
        total = z.new_zeros(z.shape[0])
        for level in reversed(self.levels):
            image, log_det = level.inverse(image, conditions.pop())
            total = total + log_det
            image = pixel_shuffle(image, 2)
            if asides:
                image = torch.cat([image, asides.pop()], 1)
        return image.flatten(1), total

    def _parts(self, z: Tensor) -> list[Tensor]:
        """The latent as images: what each level but the last put aside, then what the last kept."""
        _, height, width = self.shape
        parts = []
        for channels in self.added:
            height //= 2
            width //= 2
            size = channels * height * width
            part, z = z.tensor_split([size], 1)
            parts.append(part.unflatten(1, (channels, height, width)))
        return parts


def _steps(number: int, size: int, context: int, channels: int) -> FlowStack:
    """The steps of one level, on images of `size` channels and conditions of `context`."""
    flows = []
    for _ in range(number):
        flows.append(ActNorm(size))
        flows.append(InvertibleConvolution(size))
        flows.append(ConvolutionalCoupling(size, context, channels))
    return FlowStack(*flows)


def _refuse_other_sizes(dim: int, context_dim: int, levels: int) -> None:
    """Refuse what cannot be read as an image, or not halved so often."""
    side = 2**levels
    if HEIGHT % side:
        raise UsageError(f"--memory_levels {levels}: an image of {HEIGHT} rows can be halved at "
                         "most 4 times; pass --memory_levels 2.")
    if dim == 0 or dim % (HEIGHT * side):
        raise UsageError("--memory glow reads the embedding as a 16 x D/16 image and halves its "
                         f"sides {levels} times, which --embed_dim {dim} does not allow: pass a "
                         f"multiple of {HEIGHT * side}.")
    if context_dim != dim:
        raise ValueError("the context is read as an image of the same size: "
                         f"{context_dim} is not {dim}")
