"""The network that a user deploys: backbone, pooling, projection and contextual memory."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, layer_norm
from torch.nn.modules.batchnorm import _BatchNorm

from architectures.backbones import Backbone
from architectures.memory import ContextualMemory
from utilities.pairwise import at_least_float32, unit
from utilities.registry import lookup

DEFAULT_POOLING = "avg+max"
# That of the library: a backbone then pools itself, where the library has more than an average.
OWN_POOLING = "own"


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


class Pooling(nn.Module):
    """A function of the map without parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, F, h, w) -> (B, F)"""
        return self.function(feature_map)


class GeM(nn.Module):
    """Generalised mean with one learnable p for all channels, which starts at 3.

        f_k = (mean_{x in X_k} x^p)^(1/p),    X_k: the values of channel k, at least `eps`

    Radenovic, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI
    2018, eq. 4. p = 1 is the average, p to infinity the maximum; p is kept at 1 or more. Computed
    as m (mean (x / m)^p)^(1/p) with m the maximum of the channel, which is the same for every m and
    whose powers cannot overflow in float32.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, F, h, w) -> (B, F)"""
        # The gradient passes the clamp, so that a p below 1 can still come back.
        value = self.p.detach()
        p = self.p + (value.clamp(min=1) - value)
        x = feature_map.clamp(min=self.eps)
        m = x.detach().amax((2, 3))  # (B, F)
        mean = (x / m[:, :, None, None]).pow(p).mean((2, 3))  # (B, F)
        return m * mean.pow(1 / p)


def average(feature_map: Tensor) -> Tensor:
    """Average over the places, (B, F, h, w) -> (B, F)"""
    return adaptive_avg_pool2d(feature_map, 1).flatten(1)


def maximum(feature_map: Tensor) -> Tensor:
    """Maximum over the places, (B, F, h, w) -> (B, F)"""
    return adaptive_max_pool2d(feature_map, 1).flatten(1)


def both(feature_map: Tensor) -> Tensor:
    """Average plus maximum, as in the published code, (B, F, h, w) -> (B, F)"""
    return average(feature_map) + maximum(feature_map)


def own(feature_map: Tensor) -> Tensor:
    """The library's own pooling, which its models do themselves; else the average,
    (B, F, h, w) -> (B, F)
    """
    return average(feature_map)


POOLINGS: dict[str, Callable[[Tensor], Tensor] | type[nn.Module]] = {
    "avg": average,
    "avg+max": both,
    "gem": GeM,
    "max": maximum,
    "own": own,
}


def select_pooling(name: str | None) -> nn.Module:
    """The pooling called `name`; None: average plus maximum."""
    pooling = lookup(POOLINGS, name or DEFAULT_POOLING, "pooling", "--pooling")
    return pooling() if isinstance(pooling, type) else Pooling(pooling)
