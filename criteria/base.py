"""The contract of every criterion, the pair weights that it may be given, and how they enter sums and log-sum-exps."""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from batchminer.base import Quadruplets, Triplets
from utilities.errors import UsageError
from utilities.pairwise import masked_logsumexp, negative_mask, positive_mask


class PairWeights(NamedTuple):
    """Weights of the pairs of a batch; row i belongs to anchor i.

    Both are (B, 1), one weight for all pairs of that sign of the anchor, or (B, B), one for each pair (i, j).
    A weight is a multiplier, not negative: one everywhere is the unweighted loss, and a weighting that only
    redistributes has a mean of one over the pairs of a row. Entries that are no pair of that sign are not read.
    """

    positive: Tensor
    negative: Tensor


NO_WEIGHTS = (None, None)


class Criterion(nn.Module):
    """A loss over a batch of embeddings; a subclass writes `loss`.

    needs_triplets: whether forward must be given mined triplets; needs_quadruplets: and these with a second negative.
    takes_references: whether the batch may be followed by rows that are only compared with (a cross-batch memory).
    accepts_weight: 'pair' (one weight a pair, or fewer), 'anchor' (one weight an anchor and sign) or 'none'.
    placements: where a weight may enter: 'term' (it scales the loss term) and, in some, 'distance' (as published);
        `weight_on` is the one in force.
    own_lr: learning rate of the criterion's own parameters (proxies, boundaries); None: that of the network.
    """

    needs_triplets = False
    needs_quadruplets = False
    takes_references = False
    accepts_weight = "none"
    placements: tuple[str, ...] = ("term",)
    weight_on = "term"
    own_lr: float | None = None

    def is_class_specific(self) -> bool:
        """Whether it has parameters of the classes that it trains on (proxies, boundaries), so that it says nothing of
        others."""
        return any(True for _ in self.parameters())

    def param_groups(self, lr: float) -> list[dict]:
        """Optimizer groups of the criterion's own parameters, at their own rate (else `lr`), never decayed: decay
        would shrink a boundary that is a distance, and does nothing but rescale proxies, which are normalised."""
        params = [p for p in self.parameters() if p.requires_grad]
        rate = lr if self.own_lr is None else self.own_lr
        return [{"params": params, "lr": rate, "weight_decay": 0.0}] if params else []

    def forward(self, embedding: Tensor, label: Tensor, triplets: Triplets | Quadruplets | None = None,
                weight: PairWeights | None = None, anchors: int | None = None) -> Tensor:
        """embedding (B, D) as given, label (B,), triplets or None, weight or None -> the loss, a scalar.

        With `anchors` A, embedding and label have N rows, of which the first A are the batch and the others references;
        triplets index all of them, their anchors and the rows of the weights the batch, weights are (A, 1 or N).
        Half precision is computed and returned in float32, and autocast is off inside: an exponential of a similarity
        that was rounded to 8 bits is noise. No control flow depends on embedding or weight, so that torch.func.vmap
        and grad pass through.
        """
        self._refuse_what_cannot_work(triplets, weight, anchors)
        with torch.autocast(embedding.device.type, enabled=False):
            x = embedding.float() if embedding.dtype in (torch.float16, torch.bfloat16) else embedding
            return self.loss(x, label, triplets, NO_WEIGHTS if weight is None else weight, anchors)

    def loss(self, x: Tensor, label: Tensor, triplets: Triplets | Quadruplets | None, weight: PairWeights | tuple,
             anchors: int | None) -> Tensor:
        """The formula: x (B, D) in float32 or float64, weight a pair of tensors or of None -> scalar of x's dtype."""
        raise NotImplementedError

    def _refuse_what_cannot_work(self, triplets, weight, anchors) -> None:
        name = type(self).__name__
        if self.needs_triplets and triplets is None:
            raise UsageError(f"{name} compares triplets and was given none: pass --batch_mining distance.")
        if self.needs_quadruplets and not isinstance(triplets, Quadruplets):
            raise UsageError(f"{name} compares quadruplets: pass triplets through batchminer.base.add_second_negative.")
        if anchors is not None and not self.takes_references:
            raise UsageError(f"{name} takes no reference rows, so a cross-batch memory cannot serve it: pass "
                             "--xbm_size 0.")
        if weight is None:
            return
        if self.accepts_weight == "none":
            raise UsageError(f"{name} takes no pair weights: pass --pair_weighting uniform.")
        if self.accepts_weight == "anchor" and max(w.shape[-1] for w in weight) > 1:
            raise UsageError(f"{name} compares images with proxies, so it takes one weight an image, not one a pair: "
                             "pass --policy_action weight --policy_granularity anchor.")


def pair_masks(label: Tensor, anchors: int | None = None) -> tuple[Tensor, Tensor]:
    """The masks of positive and negative pairs, (A, N) each: (B, B) where all rows are anchors."""
    return positive_mask(label, anchors), negative_mask(label, anchors)


def weight_of(weight: Tensor | None, i: Tensor, j: Tensor) -> Tensor | float:
    """The weight of the pairs (i, j) of given indices, (T,); one where none is given."""
    if weight is None:
        return 1.0
    return weight[i, j if weight.shape[-1] > 1 else 0]  # (T,)


def mean_over(term: Tensor, *weights: Tensor | float, nonzero: bool = False) -> Tensor:
    """Mean over the tuples of their term (T,) times its weights; over no tuples zero. With `nonzero` the sum is divided
    by the number of positive terms, counted without the weights, so that a small weight lowers the mean."""
    count = (term > 0).sum().clamp(min=1) if nonzero else max(1, len(term))
    for weight in weights:
        term = weight * term  # (T,)
    return term.sum() / count


def masked_weights(weight: Tensor | None, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight of every entry of the mask (B, N), one where none is given, and zero outside the mask.

    Unweighted losses pass through here too: with weights of one they are then the same numbers, bit for bit.
    """
    if weight is None:
        return mask.to(dtype)  # (B, N)
    return weight.to(dtype).expand_as(mask).masked_fill(~mask, 0)  # (B, N)


def weighted_logsumexp(logit: Tensor, weight: Tensor | None, mask: Tensor, dim: int = -1) -> Tensor:
    """log sum w exp(logit) over the entries of the mask (B, N); a weight of zero leaves its entry out."""
    if weight is None:
        return masked_logsumexp(logit, mask, dim)
    weight = weight.to(logit.dtype)  # (B, 1) or (B, N)
    counts = weight > 0
    return masked_logsumexp(logit + torch.where(counts, weight, 1).log(), mask & counts, dim)
