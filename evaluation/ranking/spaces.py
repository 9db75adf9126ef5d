"""Rows whose inner products rank by cosine or by Euclidean distance, whatever their scale."""
import math

import torch
from torch import Tensor

from evaluation.ranking.exact import SHORT, row_blocks
from evaluation.ranking.rows import Rows
from utilities.pairwise import unit

# numbers up to this power of two, and down from its inverse, have squares that float32 can add
LARGE = 2.0**30
# where distances are below this share of the lengths, float32 products leave too few digits
SPREAD = 1 / 32
TINY = 2.0**-1000  # length that stands for zero in float64
SAMPLE = 1024  # rows from which that is estimated


def scaled(embeddings: Tensor, gallery: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both multiplied by one power of two, in float64, where squares might leave float32's range.

    That is exact, and changes neither a ranking nor a ratio.
    """
    parts = [rows for rows in (embeddings, gallery) if rows is not None and rows.numel()]
    largest = max((rows.abs().max().item() for rows in parts), default=0)
    if not largest or 1 / LARGE < largest < LARGE:
        return embeddings, gallery
    factor = math.ldexp(1, min(1023, -math.frexp(largest)[1]))
    shrunk = [None if rows is None else rows.double() * factor for rows in (embeddings, gallery)]
    return shrunk[0], shrunk[1]


def searched(embeddings: Tensor, gallery: Tensor | None, cosine: bool) -> tuple[Rows, Rows]:
    """Query rows and gallery rows whose inner product ranks as asked.

    By cosine, rows of unit length stay as they are; query and gallery rows are the same object
    where gallery is None, unless the rows are narrow.
    """
    query, other = scaled(embeddings, gallery)
    if cosine:
        query = _unit_rows(query)
        other = None if gallery is None else _unit_rows(other)
        query, other = _zeros_apart(query, other)
    given = query if other is None else other
    narrow = is_narrow(given)
    if cosine and not narrow:
        rows = Rows(query.float(), query, _squares(query))
        return rows, rows if other is None else Rows(other.float(), other, _squares(other))
    if narrow:
        centre = given.double().median(0).values
        query = query.double() - centre
        given = given.double() - centre
    product, other_product = euclidean(query.float(), given.float())
    rows = Rows(product, query, _squares(query) / 2, narrow, cosine)
    return rows, Rows(other_product, given, _squares(given) / 2, narrow, cosine)


def _unit_rows(rows: Tensor) -> Tensor:
    """Rows of length one: as they are, where rounding of their length is all that they lack."""
    if is_unit(rows) and not is_narrow(rows):
        return rows.float()
    return exact_unit(rows)


def _zeros_apart(*parts: Tensor | None) -> list[Tensor | None]:
    """Rows with a dimension more where some are zero, which have length one in it.

    So their cosine with other rows is 0 by distance too, as narrow sets rank.
    """
    zero = [None if rows is None else ~rows.any(1, keepdim=True) for rows in parts]
    if not any(rows is not None and rows.any() for rows in zero):
        return list(parts)
    return [None if rows is None else torch.cat([rows, own.to(rows.dtype)], 1)
            for rows, own in zip(parts, zero)]


def _squares(rows: Tensor) -> Tensor:
    """The squared lengths (N,), float64."""
    blocks = row_blocks(rows, len(rows), rows.shape[1])
    return torch.cat([part.double().square().sum(1) for _, part in blocks])


def is_unit(rows: Tensor) -> bool:
    """Whether all rows have length one, but for rounding."""
    error = rows.float().norm(dim=1) - 1
    return bool((error.abs() <= 1e-6).all())


def exact_unit(rows: Tensor) -> Tensor:
    """Rows of length one in float64, of whatever length they were; a zero row stays zero."""
    rows = rows.double()
    largest = rows.abs().amax(1, keepdim=True).clamp(min=TINY)
    return unit(rows / largest.log2().floor().exp2())


def is_narrow(rows: Tensor) -> bool:
    """Whether most rows lie close to another, compared with the length of the longest one."""
    some = rows[:: max(1, len(rows) // SAMPLE)].double()
    apart = torch.cdist(some[::4], some, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = apart.masked_fill(apart == 0, torch.inf).amin(1).median()
    return bool(nearest < SPREAD * rows.double().norm(dim=1).max())


def centred(rows: Tensor) -> Tensor:
    """The rows for distances in float32; narrow ones in float64, less their median."""
    if not is_narrow(rows):
        return rows.float()
    return rows.double() - rows.double().median(0).values


def euclidean(query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (Q, D + 2), (N, D + 2) whose inner product ranks by Euclidean distance.

    The product is q.g - |g|^2 / 2. The half square fills two float32 columns, so that none of it is
    lost. Both are scaled by a power of two near the longest row.
    """
    scale = 2.0 ** gallery.norm(dim=1).max().clamp(min=SHORT).log2().round()
    half = _squares(gallery) / (2 * scale)  # (N,) float64
    high = half.float()
    low = (half - high.double()).float()
    query = torch.cat([query, scale.expand(len(query), 2)], 1)
    gallery = torch.cat([gallery, -high[:, None], -low[:, None]], 1)
    return query, gallery  # (Q, D + 2), (N, D + 2)
