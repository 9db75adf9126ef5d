"""How the images of a batch relate to each other: every image gets a context from the whole batch.

RELATIONS holds the kinds. One more is a subclass of Relation with its own `encode`, and a line in RELATIONS.
"""
import math

import torch
from torch import Tensor, nn

from criteria.method.recurrence import gru
from utilities.errors import UsageError
from utilities.registry import known_name
from utilities.seed import RandomStream

ORDERS = ("permuted", "batch")
WIDEST = 512


class Relation(nn.Module):
    """Inter-sample relation: features of a batch -> context of each image.

        s_i = encoding of image i in the batch,   a_i = W mean over directions(s_i) + b,   context c_i = sigmoid(a_i)

    hidden: width of the state, 0: that of the feature, None: as `suiting`.
    order: 'permuted' shuffles the batch before it is read and undoes it after, so that the position says nothing of
        the class; 'batch' leaves it as the sampler made it.
    share_projection: the context goes through the projection of the embedding instead of one of its own (as
        published); the state must then be as wide as the feature.
    """

    def __init__(self, feature_dim: int, embed_dim: int, hidden: int | None = None, order: str = "permuted",
                 share_projection: bool = False, seed: int = 0):
        super().__init__()
        known_name(order, ORDERS, "order", "--relation_order")
        self.state_dim = suiting(feature_dim) if hidden is None else hidden or feature_dim
        if share_projection and self.state_dim != feature_dim:
            raise UsageError("--relation_share_projection needs states as wide as the feature: pass "
                             "--relation_hidden 0.")
        self.order = order
        self.stream = RandomStream(seed)
        self.encoder = self.build_encoder(feature_dim)
        self.projection = None if share_projection else nn.Linear(self.state_dim, embed_dim)

    def build_encoder(self, feature_dim: int) -> nn.Module:
        """What reads the batch, from features to states of width `state_dim`."""
        raise NotImplementedError

    def encode(self, feature: Tensor) -> Tensor:
        """feature (B, F) -> states (B, directions, hidden); the first direction is what the policy sees."""
        raise NotImplementedError

    def forward(self, feature: Tensor, projection: nn.Module) -> tuple[Tensor, Tensor]:
        """feature (B, F), the network's projection -> context logits a (B, D), states (B, hidden)."""
        order = self.reading_order(feature)
        states = self.encode(feature[order])[order.argsort()]  # (B, directions, hidden)
        projection = self.projection or projection
        return projection(states.mean(1)), states[:, 0]

    def reading_order(self, feature: Tensor) -> Tensor:
        """The order in which the images are read, (B,)."""
        number = len(feature)
        if self.order == "batch":
            return torch.arange(number, device=feature.device)
        return torch.randperm(number, generator=self.stream.on(feature.device), device=feature.device)

    def get_extra_state(self) -> dict:
        """The random stream's state, part of the module's state dict."""
        return self.stream.state_dict()

    def set_extra_state(self, state: dict) -> None:
        """Restore the random stream."""
        self.stream.load_state_dict(state)


class GRU(Relation):
    """A gated recurrent unit (Cho et al. 2014) over the batch as one sequence.

    bidirectional: read it from both ends, as published for convolutional networks, or from the first image on alone, as
        for the transformer.
    """

    def __init__(self, feature_dim: int, embed_dim: int, bidirectional: bool = True, **kwargs):
        self.bidirectional = bidirectional
        super().__init__(feature_dim, embed_dim, **kwargs)

    def build_encoder(self, feature_dim: int) -> nn.Module:
        """One layer."""
        return nn.GRU(feature_dim, self.state_dim, bidirectional=self.bidirectional)

    def encode(self, feature: Tensor) -> Tensor:
        """(B, F) -> (B, directions, hidden): forward and backward states."""
        on_cpu = feature.device.type == "cpu"
        states = gru(self.encoder, feature) if on_cpu else self.encoder(feature)[0]  # (B, directions * hidden)
        return states.unflatten(-1, (-1, self.state_dim))


class Attention(Relation):
    """One self-attention layer (Vaswani et al. 2017) over the batch as a set."""

    heads = 4

    def build_encoder(self, feature_dim: int) -> nn.Module:
        """A linear map to the state's width, then the layer."""
        if self.state_dim % self.heads:
            raise UsageError(f"--relation attention divides its state among {self.heads} heads, but its width is "
                             f"{self.state_dim}: pass a multiple of {self.heads} as --relation_hidden.")
        layer = nn.Linear(feature_dim, self.state_dim)
        return nn.Sequential(layer, nn.TransformerEncoderLayer(self.state_dim, self.heads, self.state_dim, dropout=0.0))

    def encode(self, feature: Tensor) -> Tensor:
        """(B, F) -> (B, 1, hidden)."""
        return self.encoder(feature)[:, None]


def suiting(feature_dim: int) -> int:
    """The width of the state for features so wide: half of it, in eights, at most WIDEST; the time
    grows with its square."""
    return min(WIDEST, 8 * math.ceil(feature_dim / 16))


RELATIONS: dict[str, type[Relation]] = {
    "attention": Attention,
    "gru": GRU,
}
