"""The network that a user deploys: backbone, pooling, projection and contextual memory."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.nn.modules.batchnorm import _BatchNorm

from architectures.backbones import Backbone
from architectures.memory import ContextualMemory
from architectures.pooling import select as select_pooling
from utilities.pairwise import at_least_float32, unit


class Features(NamedTuple):
    """What the criterion sees of a batch: feature (B, F), and its projection, embedding (B, D)."""

    feature: Tensor
    embedding: Tensor


class Network(nn.Module):
    """Image -> feature h -> embedding e = W h + b; at test time unit(e + c_hat).

    embed_dim: length of e; None: no projection, e = h.
    pooling: of the map, by name; None: average plus maximum. A backbone that pools its tokens
    itself has none.
    feature_norm: h is the layer norm of what is pooled, without learned scale and shift.
    normalize: whether the criterion sees unit rows (suffix `_normalize`); `embed` gives them.
    frozen: whether batch norm keeps its statistics also in training (suffix `_frozen`); with
    `frozen_affine` its scale and shift too.
    """

    # Compiled, or None.
    _compiled: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self,
        backbone: Backbone,
        embed_dim: int | None,
        *,
        normalize: bool = True,
        frozen: bool = False,
        frozen_affine: bool = False,
        memory: ContextualMemory | None = None,
        pooling: str | None = None,
        feature_norm: bool = False,
    ):
        super().__init__()
        self.backbone = backbone.trunk
        self.image_size = backbone.image_size
        self.preprocessing = backbone.preprocessing
        self.crop_share = backbone.crop_share
        self.interpolation = backbone.interpolation
        self.feature_dim = backbone.feature_dim
        self.embed_dim = embed_dim or backbone.feature_dim
        self.normalize = normalize
        self.frozen = frozen
        self.feature_norm = feature_norm
        self.pooling = nn.Identity() if backbone.pooled else select_pooling(pooling)
        self.projection = nn.Linear(backbone.feature_dim, embed_dim) if embed_dim else nn.Identity()
        self.memory = memory
        if frozen_affine:
            for norm in self._batch_norms():
                norm.requires_grad_(False)
        self._trainable = [p for p in self.backbone.parameters() if p.requires_grad]
        self.hold_backbone(False)

    def forward(self, image: Tensor) -> Features:
        """(B, 3, H, W), or (B, F) of `pooled`, -> Features; the embedding is not normalised."""
        feature = image if image.ndim == 2 else self.pooled(image)
        with torch.autocast(image.device.type, enabled=False):
            return Features(feature, self.projection(feature))

    def pooled(self, image: Tensor) -> Tensor:
        """The features of images, (B, 3, H, W) -> (B, F).

        Mixed precision is for the backbone: what follows is small, and a ranking needs more than
        8 bits of a similarity.
        """
        backbone = self.backbone
        if self._compiled and self.training:
            backbone = self._compiled
        feature_map = at_least_float32(backbone(image))  # (B, F, h, w), or (B, F)
        with torch.autocast(image.device.type, enabled=False):
            feature = self.pooling(feature_map)  # (B, F)
            return layer_norm(feature, feature.shape[1:]) if self.feature_norm else feature

    def combine(self, embedding: Tensor, context: Tensor | None) -> Tensor:
        """What the criterion sees, (B, D): e + c, or e without c; unit rows if `normalize`."""
        row = _add(embedding, context)
        return unit(row) if self.normalize else row

    @torch.no_grad()
    def embed(self, image: Tensor, index: Tensor | None = None) -> Tensor:
        """(B, 3, H, W), or (B, F) of `pooled`, -> unit rows (B, D), the same in both modes.

        Row i depends on image i alone. index (B,): the images' numbers, needed only by
        `--memory_decode sample`, which draws by them.
        """
        training = self.training
        self.eval()
        try:
            embedding = self(image).embedding
            context = None
            if self.memory is not None:
                context = self.memory.context(embedding, index)
            return unit(_add(embedding, context))
        finally:
            self.train(training)

    def compile_backbone(self) -> None:
        """From now on train with a compiled backbone; call it when all else about it is final.

        Evaluation does not use it, so that no metric depends on it. It is compiled for each shape
        by itself, since code for any shape would depend on which shapes came before, and a
        continued run would round differently. Only the function is compiled: modules, their names
        and the state dict stay as they are.
        """
        self._compiled = torch.compile(self.backbone.forward, dynamic=False)

    def hold_backbone(self, held: bool) -> None:
        """While it is held, the backbone is a fixed function of the image.

        It is in evaluation mode, its batch norm learns no statistics, and no gradient reaches it,
        so that an optimizer changes neither it nor the optimizer's state for it.
        """
        self.held = held
        for p in self._trainable:
            p.requires_grad_(not held)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """As nn.Module.train, but frozen batch norm and a held backbone stay in evaluation mode."""
        super().train(mode)
        if self.held:
            self.backbone.eval()
        elif self.frozen:
            for norm in self._batch_norms():
                norm.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.backbone.modules() if isinstance(module, _BatchNorm)]


def _add(embedding: Tensor, context: Tensor | None) -> Tensor:
    return embedding if context is None else embedding + context
