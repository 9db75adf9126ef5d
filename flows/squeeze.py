"""Space to channels."""
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from flows.base import Flow


class Squeeze(Flow):
    """(B, C, H, W) -> (B, 4 C, H/2, W/2), each 2x2 block to channels (RealNVP, section 3.6);
    log_det = 0."""

    def forward(self, x, context=None):
        """H and W must be even."""
        return pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def inverse(self, z, context=None):
        """Channels back to 2x2 blocks."""
        return pixel_shuffle(z, 2), z.new_zeros(z.shape[0])
