"""The one definition of distance, label mask, masked weight and sum, and average precision.

Losses, miners, the policy's reward and the reports share these; none of them synchronises with the
host. All functions take rows along the second last axis and accept leading batch axes, so they run
under torch.func.vmap. Where a function takes `anchors`, the first A rows (default: all N) are
compared with all N rows: the others are only compared with, as the rows of a cross-batch memory
are.
"""
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from utilities.errors import UsageError
from utilities.text import shown

# Rows of length one, (..., D) -> (..., D); a zero row stays zero.
unit = partial(normalize, dim=-1)


def refuse_shapes(what: str, embedding: Tensor, label: Tensor) -> None:
    """A UsageError where rows and labels are not tensors of real numbers (B, D) and whole numbers
    (B,): others would broadcast, or be taken for other classes.
    """
    are_tensors = isinstance(embedding, Tensor) and isinstance(label, Tensor)
    if not are_tensors or embedding.ndim != 2 or label.shape != embedding.shape[:1]:
        raise UsageError(f"{what} embeddings (B, D) with labels (B,), not "
                         f"{shown(embedding)} with {shown(label)}.")
    if not embedding.is_floating_point():
        raise UsageError(f"{what} embeddings of real numbers, not {embedding.dtype}.")
    if not len(embedding):
        raise UsageError(f"{what} embeddings of one image or more, not {shown(embedding)}.")
    if label.is_floating_point():
        raise UsageError(f"{what} labels that are whole numbers, not {label.dtype}.")


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, everything else as it is."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if half else x


def similarity(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Dot products of the rows of x with those of y (default: x itself)."""
    y = x if y is None else y
    return x @ y.transpose(-1, -2)  # (..., N, M)


def squared_distance(x: Tensor, anchors: int | None = None) -> Tensor:
    """Squared Euclidean distances of the anchors to all rows.

    Never negative, and exactly zero from a row to itself.
    """
    square = x.square().sum(-1)  # (..., N)
    product = similarity(x[..., :anchors, :], x)  # (..., A, N)
    sums = square[..., :anchors, None] + square[..., None, :]
    distance = sums - 2 * product
    itself = identity(square, anchors)  # (A, N)
    return distance.masked_fill(itself, 0).clamp(min=0)  # (..., A, N)


def distance(x: Tensor, anchors: int | None = None) -> Tensor:
    """Euclidean distances of the anchors to all rows; gradient zero where two rows coincide."""
    return root(squared_distance(x, anchors))  # (..., A, N)


def squared_distance_between(x: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Squared Euclidean distance of row i[t] to row j[t] for every t."""
    difference = x[i] - x[j]
    return difference.square().sum(-1)  # (T,)


def distance_between(x: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Euclidean distance of row i[t] to row j[t] for every t; gradient zero where they coincide."""
    return root(squared_distance_between(x, i, j))  # (T,)


def root(square: Tensor) -> Tensor:
    """Square root with gradient zero, not infinity, at zero; NaN stays NaN."""
    zero = square <= 0
    safe = torch.where(zero, 1, square)
    return torch.where(zero, 0, safe.sqrt())


def identity(label: Tensor, anchors: int | None = None) -> Tensor:
    """True at (i, i), (A, N); of the argument only the last length N and the device are read."""
    number = label.shape[-1]
    rows = number if anchors is None else anchors
    return torch.eye(rows, number, dtype=torch.bool, device=label.device)


def positive_mask(label: Tensor, anchors: int | None = None) -> Tensor:
    """True at (i, j) where j is another row of i's class, (A, N)."""
    return (label[:anchors, None] == label) & ~identity(label, anchors)


def negative_mask(label: Tensor, anchors: int | None = None) -> Tensor:
    """True at (i, j) where j is of another class than i, (A, N)."""
    return label[:anchors, None] != label


def pair_masks(label: Tensor, anchors: int | None = None) -> tuple[Tensor, Tensor]:
    """The masks of positive and negative pairs, (A, N) each: (B, B) where all rows are anchors."""
    return positive_mask(label, anchors), negative_mask(label, anchors)


def lowest(x: Tensor) -> float:
    """A huge negative number of x's type; two of them can be added."""
    return torch.finfo(x.dtype).min / 2


def only(x: Tensor, mask: Tensor) -> Tensor:
    """x with a huge negative number where mask is false."""
    return x.masked_fill(~mask, lowest(x))


def masked_logsumexp(x: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """log sum exp over the entries where mask is true.

    Over none of them a huge negative number with zero gradient, so that its softplus is zero; a
    true -inf would make the gradient NaN.
    """
    return only(x, mask).logsumexp(dim)


def weighted_logsumexp(logit: Tensor, weight: Tensor | None, mask: Tensor, dim: int = -1) -> Tensor:
    """log sum w exp(logit) over the mask's entries; a weight of zero leaves its entry out."""
    if weight is None:
        return masked_logsumexp(logit, mask, dim)
    weight = weight.to(logit.dtype)  # (A, 1) or (A, N)
    counted = weight > 0
    log_weight = torch.where(counted, weight, 1).log()
    return masked_logsumexp(logit + log_weight, mask & counted, dim)


def masked_weight(weight: Tensor | None, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight of every entry of the mask (A, N), one where none is given, and zero outside it.

    Unweighted losses use it too: with weights of one they are then the same numbers, bit for bit.
    """
    if weight is None:
        return mask.to(dtype)  # (A, N)
    return weight.to(dtype).expand_as(mask).masked_fill(~mask, 0)  # (A, N)


def masked_weights(weights: Iterable, masks: Iterable, dtype: torch.dtype) -> list[Tensor]:
    """`masked_weight` of both signs, for the masks of `pair_masks`."""
    return [masked_weight(w, mask, dtype) for w, mask in zip(weights, masks)]  # (A, N) each


def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of x over the entries where mask is true, along `dim` or over all; zero over none."""
    dims = tuple(range(x.ndim)) if dim is None else dim
    return (x * mask).sum(dims) / mask.sum(dims).clamp(min=1)


def listed(positive: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's positives stand: index (A, P), and which entries are real (A, P).

    Rows are padded to the longest. P, the size of the largest class, is read from the labels: the
    one value that a GPU is waited for.
    """
    mask = positive.float()  # (A, N)
    longest = int(mask.sum(-1).max())
    real, item = mask.topk(longest, dim=-1)
    return item, real > 0


# For up to so many positives counting what stands above each takes less time than a sort, on these
# devices: a GPU would have to be waited for to know how many there are.
FEW = 3
COUNTING = ("cpu",)


def average_precision(similarity: Tensor, positive: Tensor) -> Tensor:
    """Average precision of each row of a self-similarity matrix as a query, itself left out by
    index.

    AP_i = 1/|P_i| sum_{p in P_i} (positives ranked at or before p) / (rank of p), ties broken by
    the lower index; zero for a row without positives. similarity (..., B, B), positive (B, B)
    without the diagonal -> (..., B).
    """
    itself = identity(similarity)  # (B, B)
    others = similarity.masked_fill(itself, -torch.inf)
    if similarity.device.type in COUNTING and similarity.numel():
        item, real = listed(positive)
        if item.shape[1] <= FEW:
            return precision_by_counting(others, item, real)
    order = others.sort(dim=-1, descending=True, stable=True).indices
    # in the order of the ranks
    hit = positive.expand_as(similarity).gather(-1, order)  # (..., B, B)
    hit = hit.to(similarity.dtype)
    rank = torch.arange(1, similarity.shape[-1] + 1, device=similarity.device)
    precision = hit * hit.cumsum(-1) / rank
    return precision.sum(-1) / hit.sum(-1).clamp(min=1)  # (..., B)


def precision_by_counting(others: Tensor, item: Tensor, real: Tensor) -> Tensor:
    """`average_precision` of similarities (..., B, B), -inf on the diagonal, from the positives as
    `listed` gives them, (B, P) each: P x B comparisons a row."""
    places = item.expand(*others.shape[:-1], -1)  # (..., B, P)
    own = others.gather(-1, places)[..., None]  # (..., B, P, 1)
    rows = others[..., None, :]  # (..., B, 1, B)
    earlier = torch.arange(others.shape[-1]) < item[..., None]  # (B, P, B)
    above = (rows > own) | ((rows == own) & earlier)  # (..., B, P, B)
    rank = 1 + above.sum(-1)  # (..., B, P)
    among = item[:, None].expand(*above.shape[:-1], -1)  # (..., B, P, P)
    hits = 1 + (above.gather(-1, among) & real[:, None]).sum(-1)
    precision = real * hits / rank.to(others.dtype)
    return precision.sum(-1) / real.sum(-1).clamp(min=1)  # (..., B)
