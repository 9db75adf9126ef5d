"""How the classes lie in the embedding space: spread within and between them, and the spectrum.

Rows are used as given, in float64. A function that gives a vector of C + 1 values gives the metric
itself, then the metric with one class left out, class by class; dists_intra gives the numerator and
the denominator that each class contributes, (C,) each. evaluation.metrics.bootstrap makes an
interval of either.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from evaluation.ranking import exact_unit, row_blocks
from utilities.errors import RunError

BLOCK = 4096  # rows taken to float64 at once
# a smaller dists@inter counts as this in dists@intra_over_inter, as in the base framework
LEAST = 1e-8


# --------------------------------------------------------------------------- distances of classes


def dists_intra(embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """dists@intra (Roth et al., ICML 2020): mean over classes of the mean cosine distance of two
    images of the class.

    Each class's mean over ordered pairs i != j, (C,), and 1, or 0 for a class of one image, which
    has no pair. By sum_{i != j} u_i u_j = |sum_i u_i|^2 - sum_i |u_i|^2 no table of pairs is
    needed. A zero row is at distance 1 from every other. embedding (N, D), label (N,).
    """
    total, count = _class_sums(embedding, label, _unit_and_square)  # (C, D + 1), (C,)
    total, square = total[:, :-1], total[:, -1]  # (C, D), (C,)
    pairs = count * (count - 1)
    some = pairs > 0
    if not some.any():
        raise RunError("evaluation: every class has a single image, so dists@intra has no pair to "
                       "measure; it needs a class with two images or more.")
    mean = 1 - (total.square().sum(1) - square) / pairs.clamp(min=1)
    return mean * some, some.double()


def dists_inter(embedding: Tensor, label: Tensor) -> Tensor:
    """dists@inter (Roth et al., ICML 2020): mean cosine distance over ordered pairs of class means,
    (C + 1,).

    Class means are means of the rows as given; a mean of zero length is at distance 1 from the
    others. No (C, C) table.
    """
    total, count = _class_sums(embedding, label, lambda rows: rows)  # (C, D), (C,)
    if len(count) < 2:
        raise RunError("evaluation: there is one class, so dists@inter has no two to compare; "
                       "leave it out.")
    mean = exact_unit(total / count[:, None])  # (C, D)
    square = _with_and_without(mean.square().sum(1))  # (C + 1,)
    classes = _with_and_without(torch.ones_like(count))
    total = _with_and_without(mean)  # (C + 1, D)
    return 1 - (total.square().sum(1) - square) / (classes * (classes - 1))


def dists_intra_over_inter(embedding: Tensor, label: Tensor) -> Tensor:
    """dists@intra_over_inter (Roth et al., ICML 2020): dists@intra / dists@inter, (C + 1,)."""
    both = torch.stack(dists_intra(embedding, label), 1)  # (C, 2)
    part, whole = _with_and_without(both).unbind(1)  # (C + 1,), (C + 1,)
    return part / whole / dists_inter(embedding, label).clamp(min=LEAST)


def _class_sums(embedding: Tensor, label: Tensor,
                of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Per class the sum over its rows in float64 of what `of` makes of them (B, D), (C, E), and
    their number (C,)."""
    _, group, count = label.unique(return_inverse=True, return_counts=True)  # (N,), (C,)
    total = of(embedding[:0].double()).sum(0).repeat(len(count), 1)  # zeros (C, E)
    for start, rows in row_blocks(embedding, BLOCK):
        part = group[start:start + len(rows)]
        total.index_add_(0, part, of(rows.double()))
    return total, count.double()


def _unit_and_square(rows: Tensor) -> Tensor:
    """Unit rows (B, D) and their squared lengths, which are zero or near one, (B, D + 1)."""
    unit = exact_unit(rows)
    return torch.cat([unit, unit.square().sum(1, keepdim=True)], 1)


def _with_and_without(part: Tensor) -> Tensor:
    """The sum over the classes (C, ...), then that sum without each: (C + 1, ...)."""
    total = part.sum(0)
    return torch.cat([total[None], total - part])


# --------------------------------------------------------------------------------------- spectrum


def rho_spectrum(value: Tensor, m: int) -> Tensor:
    """rho_spectrum@<m> (Roth et al., ICML 2020): how far the singular values are from equal,
    (C + 1,) or (1,).

    s: singular values, descending, the first |m| - 1 dropped, divided by their sum; U uniform over
    those left. m > 0: KL(U || s), infinite where the rows do not fill the space; m < 0:
    KL(s || U), infinite where only zeros are left; m = 0: the share of the largest, s_1 (there the
    base framework gives the vector s itself). value (C + 1 or 1, S): `singular_values`.
    """
    drop = max(abs(m) - 1, 0)
    number = value.shape[1]
    if drop >= number:
        raise RunError(f"evaluation: rho_spectrum@{m} drops the {drop} largest singular values, "
                       f"but there are {number}; the number after @ may lie between {-number} and "
                       f"{number}.")
    value = value[:, drop:]
    total = value.sum(1, keepdim=True)
    share = value / total
    relative = share * share.shape[1]  # s / U
    if m == 0:
        return share[:, 0]
    divergence = -relative.log().mean(1) if m > 0 else torch.special.xlogy(share, relative).sum(1)
    return divergence.where(total[:, 0] > 0, torch.inf)


def singular_values(embedding: Tensor, label: Tensor | None = None) -> Tensor:
    """The singular values of the rows as given, not centred, descending, (1, S), S = min(N, D).

    With labels also those without each class, (C + 1, S), to first order: along the axes of all
    rows, from which a class takes the energy of its rows.
    """
    value, axes = _singular(embedding)  # (S,), (S, D)
    if label is None:
        return value[None]
    # of its rows, along each axis
    energy, _ = _class_sums(embedding, label, lambda rows: (rows @ axes.T).square())  # (C, S)
    left = value.square() - energy
    left = left * (left > rounding_of(embedding) * value[0] * value)
    return torch.cat([value[None], left.sqrt()])


def _singular(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values (S,) and right singular vectors (S, D), by a QR that takes rows in blocks;
    values that rounding cannot tell from zero are zero."""
    triangle = embedding[:0].double()
    for _, rows in row_blocks(embedding, BLOCK):
        both = torch.cat([triangle, rows.double()])
        triangle = torch.linalg.qr(both, mode="r").R  # (<= D, D)
    _, value, axes = torch.linalg.svd(triangle, full_matrices=False)
    if value[0] == 0:
        raise RunError("evaluation: all embeddings are zero, so they have no spectrum; leave "
                       "rho_spectrum out.")
    return value * (value > rounding_of(embedding) * value[0]), axes


def rounding_of(embedding: Tensor) -> float:
    """The share of the largest singular value of rows (N, D) that is rounding."""
    return max(embedding.shape) * torch.finfo(torch.float64).eps
