"""What the method asks of a network."""
from typing import Any, Protocol

from torch import Tensor, nn

from architectures.memory import ContextualMemory
from architectures.network import Features
from utilities.pairwise import unit


class EmbeddingNetwork(Protocol):
    """Two methods: `forward`, which the training loop calls, and `combine`, which LMMetric calls.

    memory: what learns the context, or None. projection: of features to embeddings, read only by a
    relation that shares it. `architectures.Network` is such a network around any torch module.
    """

    memory: ContextualMemory | None
    projection: nn.Module | None

    def forward(self, batch: Any) -> Features:
        """What a batch holds -> feature (B, F) and embedding e (B, D)."""

    def combine(self, embedding: Tensor, context: Tensor | None) -> Tensor:
        """e (B, D) and the context c (B, D), or None -> rows that the loss compares, (B, D)."""


class UnitRows:
    """The network of embeddings that come from elsewhere: no memory, and rows of length one."""

    memory = None
    projection = None

    def forward(self, embedding: Tensor) -> Features:
        """(B, D) -> Features, both of them the embedding."""
        return Features(embedding, embedding)

    def combine(self, embedding: Tensor, context: Tensor | None) -> Tensor:
        """unit(e) or unit(e + c), (B, D)."""
        return unit(embedding if context is None else embedding + context)
