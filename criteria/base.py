"""The contract of every criterion, the pair weights it may get, and how they enter its sums."""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from batchminer.base import Quadruplets, Triplets
from utilities.errors import UsageError
from utilities.pairwise import at_least_float32, refuse_shapes
from utilities.ranges import with_arguments
from utilities.text import shown


class PairWeights(NamedTuple):
    """Weights of the pairs of a batch; row i belongs to anchor i.

    Each is (B, 1), one weight for all pairs of that sign of the anchor, or (B, B), one for each
    pair (i, j). A weight is a multiplier, not negative; one everywhere is the unweighted loss. A
    weighting that only redistributes has a mean of one over the pairs of a row. Entries that are no
    pair of that sign are not read. Inside a loss both may be None: unweighted.
    """

    positive: Tensor | None = None
    negative: Tensor | None = None


class Criterion(nn.Module):
    """A loss over a batch of embeddings; a subclass writes `loss`.

    needs_triplets: whether forward must be given mined triplets.
    needs_quadruplets: whether these must have a second negative.
    compares_images: whether it learns from pairs of images of a batch, of one class and of two.
    takes_references: whether the batch may be followed by rows that are only compared with
        (a cross-batch memory).
    accepts_weight: 'pair' (one weight a pair, or fewer), 'anchor' (one an anchor and
        sign) or 'none'.
    placements: where a weight may enter: 'term' (it scales the loss term) and, in some, another
        place (as published); `weight_on` is the one in force.
    of_images: those that take one weight an image, and no references.
    own_lr: learning rate of the criterion's own parameters (proxies, boundaries); None: that of the
        network.

    The arguments of a subclass are its annotated fields, as in a dataclass, with __post_init__ for
    what is made of them; or it writes __init__. One outside its range is a UsageError.

    In the losses' formulas s = x x^T, d are Euclidean distances, y is the class of an image, P_i
    are the other images of i's class and N_i those of other classes, mean_t runs over all triplets
    (a, p, n), zeros included, and w+ and w- are the weights of positives and negatives.
    """

    needs_triplets = False
    needs_quadruplets = False
    compares_images = False
    takes_references = False
    accepts_weight = "none"
    placements = ("term",)
    of_images = ()
    weight_on = "term"
    own_lr = None

    def __init_subclass__(cls) -> None:
        # Modules are compared by identity.
        with_arguments(cls, eq=False, repr=False)

    def __post_init__(self) -> None:
        super().__init__()

    def place_weights(self, weight_on: str) -> None:
        """Let the weights enter there, one of `placements`."""
        self.weight_on = weight_on
        if weight_on in self.of_images:
            self.accepts_weight = "anchor"
            self.takes_references = False

    def is_class_specific(self) -> bool:
        """Whether it has parameters of the training classes, so that it says nothing of others."""
        return any(True for _ in self.parameters())

    def param_groups(self, lr: float | None = None) -> list[dict]:
        """Optimizer groups of the criterion's own parameters, at their own rate, else `lr` (None:
        the optimizer's).

        They never decay: decay would shrink a boundary that is a distance. Of proxies, which are
        normalised, it would change nothing but the scale.
        """
        params = [p for p in self.parameters() if p.requires_grad]
        return [self.own_group(params, lr)] if params else []

    def own_group(self, params: list[nn.Parameter], lr: float | None) -> dict:
        """An optimizer group of parameters of this criterion."""
        rate = lr if self.own_lr is None else self.own_lr
        settings = {"params": params, "weight_decay": 0.0}
        return settings if rate is None else settings | {"lr": rate}

    def forward(
        self,
        embedding: Tensor,
        label: Tensor,
        triplets: Triplets | Quadruplets | None = None,
        weight: PairWeights | None = None,
        anchors: int | None = None,
    ) -> Tensor:
        """embedding (B, D) as given, label (B,) -> the loss, a scalar.

        With `anchors` A, embedding and label have N rows, of which the first A are the batch and
        the others references. Triplets index all of them; anchors of triplets and rows of weights
        are of the batch; weights are (A, 1 or N). Half precision is computed and returned in
        float32, and autocast is off inside: the exponential of a similarity that was rounded to 8
        bits is noise. No control flow depends on embedding or weight, so that torch.func.vmap and
        grad pass through. Raises UsageError for shapes that do not fit, triplets that are missing,
        and weights or references that the loss does not take.
        """
        refuse_shapes("A loss compares", embedding, label)
        x = at_least_float32(embedding)
        self._refuse_what_cannot_work(x, triplets, anchors)
        if weight is not None:
            self._refuse_weights(weight, len(embedding), anchors)
        with torch.autocast(embedding.device.type, enabled=False):
            loss = self.loss(x, label.long(), triplets, weight or PairWeights(), anchors)
        if not isinstance(loss, Tensor) or loss.ndim:
            raise UsageError(f"{type(self).__name__}.loss gave {shown(loss)}: give a scalar tensor, such as "
                             "cost.mean().")
        return loss

    def loss(
        self,
        x: Tensor,
        label: Tensor,
        triplets: Triplets | Quadruplets | None,
        weight: PairWeights,
        anchors: int | None,
    ) -> Tensor:
        """The formula: x (B, D) in float32 or float64, weights or None in both -> scalar like x."""
        raise NotImplementedError(f"{type(self).__name__} has no method loss")

    def _refuse_what_cannot_work(self, x, triplets, anchors) -> None:
        name = type(self).__name__
        rows, dim = x.shape
        known = getattr(self, "embed_dim", dim)  # of a loss with proxies
        if dim != known:
            raise UsageError(f"{name} has parameters of {known} dimensions and was given {shown(x)}: pass "
                             f"--embed_dim {dim}.")
        if anchors is not None and not 0 < anchors <= rows:
            raise UsageError(f"{name} was given anchors {anchors} of {rows} rows: pass 1 to {rows}.")
        if self.needs_triplets and triplets is None:
            raise UsageError(f"{name} compares triplets and was given none: "
                             "pass --batch_mining distance.")
        if self.needs_quadruplets and not isinstance(triplets, Quadruplets):
            raise UsageError(f"{name} compares quadruplets: "
                             "pass triplets through batchminer.base.add_second_negative.")
        if anchors is not None and not self.takes_references:
            raise UsageError(f"{name} takes no reference rows, so a cross-batch memory cannot "
                             "serve it: pass --xbm_size 0.")

    def _refuse_weights(self, weight: PairWeights, rows: int, anchors: int | None) -> None:
        name = type(self).__name__
        if self.accepts_weight == "none":
            raise UsageError(f"{name} takes no pair weights: pass --pair_weighting uniform.")
        anchors = rows if anchors is None else anchors
        known = [w.shape if isinstance(w, Tensor) else None for w in weight]
        if known == [None, None]:
            return
        if not set(known) <= {(anchors, 1), (anchors, rows)}:
            raise UsageError(f"{name} takes weights of both signs, ({anchors}, 1) or ({anchors}, {rows}) "
                             f"each, not {' and '.join(map(shown, weight))}.")
        if self.accepts_weight == "anchor" and known != [(anchors, 1)] * 2:
            raise UsageError(f"{name} takes one weight an image here, not one a pair: pass "
                             "--policy_action weight --policy_granularity anchor.")


class PairCriterion(Criterion):
    """A loss over all pairs of the batch; it takes a weight for each, and references."""

    compares_images = True
    takes_references = True
    accepts_weight = "pair"


class TripletCriterion(PairCriterion):
    """A loss over the pairs of mined triplets."""

    needs_triplets = True


def weight_of(weight: Tensor | None, i: Tensor, j: Tensor, is_of_sign: Tensor) -> Tensor | float:
    """The weight of the pairs (i, j) of given indices, (T,); one where none is given.

    is_of_sign (T,): which pairs are of the weight's sign. One that is not, as a miner may choose it
    on purpose, has the weight of its anchor, if the anchor has one, else one.
    """
    if weight is None:
        return 1.0
    if weight.shape[-1] == 1:
        return weight[i, 0]  # (T,)
    return torch.where(is_of_sign, weight[i, j], 1)  # (T,)


def triplet_weights(weight: PairWeights, triplets: Triplets | Quadruplets, label: Tensor) -> tuple:
    """The weights w+_ap and w-_an of every triplet, (T,) each; one where none are given."""
    anchor, positive, negative = triplets[:3]
    own = label[anchor]  # (T,)
    w_ap = weight_of(weight.positive, anchor, positive, own == label[positive])
    w_an = weight_of(weight.negative, anchor, negative, own != label[negative])
    return w_ap, w_an


def mean_over(term: Tensor, *weights: Tensor | float, nonzero: bool = False) -> Tensor:
    """Mean over the tuples of their term (T,) times its weights; over no tuples zero.

    With `nonzero` the sum is divided by the number of positive terms, counted without the weights,
    so that a small weight lowers the mean.
    """
    if nonzero:
        count = (term > 0).sum().clamp(min=1)
    else:
        count = max(1, len(term))
    for weight in weights:
        term = weight * term  # (T,)
    return term.sum() / count
