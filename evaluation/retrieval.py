"""Retrieval metrics: what share of an image's nearest other images shows its class.

Every row is a query against all others; it leaves itself out by index. A class of one image has nothing to find: its
image stays in the gallery and is no query.
"""
import torch
from torch import Tensor

from evaluation.neighbours import exact_similarity, full_precision, row_blocks
from utilities.errors import RunError

LAST = torch.iinfo(torch.int64).max
FIRST = torch.iinfo(torch.int64).min


def relevant(label: Tensor) -> Tensor:
    """R of each row: the number of other rows of its class."""
    _, group, size = label.unique(return_inverse=True, return_counts=True)
    return size[group] - 1                                                         # (N,)


def recall_at_k(index: Tensor, label: Tensor, k: int) -> float:
    """Share of queries with a row of their class among their k nearest (Recall@K of Jegou et al., PAMI 2011, as used
    in metric learning since Song et al., CVPR 2016).

    index (N, K >= k): the nearest other rows of each row, best first; label (N,).
    """
    hit = label[index[:, :k]] == label[:, None]                                    # (N, k)
    return _query_mean(hit.any(1), relevant(label))


def map_at_r(index: Tensor, label: Tensor, block: int = 1024) -> float:
    """MAP@R (Musgrave et al., "A Metric Learning Reality Check", ECCV 2020): average precision cut at rank R.

    (1/R) sum_{i <= R} P(i) rel(i), P(i) = hits among the first i / i, R = class size - 1; mean over queries.
    index (N, K >= largest R): the nearest other rows of each row, best first; label (N,).
    """
    count = relevant(label)
    rank = torch.arange(1, index.shape[1] + 1, device=index.device)                # (K,)
    value = []
    for own, near, size in zip(label.split(block), index.split(block), count.split(block)):
        hit = (label[near] == own[:, None]) & (rank <= size[:, None])              # (block, K)
        precision = hit.cumsum(1).double() / rank                                  # (block, K)
        value.append((hit * precision).sum(1) / size.clamp(min=1))
    return _query_mean(torch.cat(value), count)


@torch.no_grad()
def mean_average_precision(embedding: Tensor, label: Tensor, block: int = 1024) -> float:
    """mAP over the full ranking: (1/R) sum over all N-1 ranks of P(i) rel(i), mean over queries; no limit on k.

    Only the rows of the query's class are ranked: sorting those R keys and counting how many of the N fall at or above
    each takes N log R steps a query, and no (N, N) table. Ties go to the lower index, by the similarities of
    evaluation.neighbours. embedding (N, D) is used as given (unit rows for cosine); label (N,).
    """
    member, count = class_members(label), relevant(label)
    gallery, value = embedding.double(), []
    with full_precision(embedding.device):
        for start, rows in row_blocks(gallery, block, len(gallery)):
            part = slice(start, start + len(rows))
            own = torch.arange(start, start + len(rows), device=rows.device)       # (rows,)
            key = _order_key(exact_similarity(rows, gallery))                      # (rows, N)
            value.append(_average_precision(key, own, member[part], count[part]))
    return _query_mean(torch.cat(value), count)


def class_members(label: Tensor) -> Tensor:
    """For each row the indices of all rows of its class, ascending; rows of smaller classes are padded with -1."""
    _, group, size = label.unique(return_inverse=True, return_counts=True)
    order = group.sort(stable=True).indices                                        # (N,) class by class
    column = torch.arange(int(size.max()), device=label.device)                    # (S,)
    place = (size.cumsum(0) - size)[:, None] + column                              # (C, S)
    table = order[place.clamp(max=len(label) - 1)].masked_fill(column >= size[:, None], -1)
    return table[group]                                                            # (N, S)


def _average_precision(key: Tensor, own: Tensor, member: Tensor, count: Tensor) -> Tensor:
    """AP of each row from the sort keys of all rows; own (rows,) is each query's index, member (rows, S)."""
    key = key.scatter_(1, own[:, None], FIRST)                                     # (rows, N) the query comes last
    away = (member < 0) | (member == own[:, None])
    found = key.gather(1, member.clamp(min=0)).masked_fill(away, LAST).sort(1).values        # (rows, S) worst first
    below = torch.searchsorted(found, key, right=True)                             # (rows, N) class rows not above it
    one = key.new_ones(1, 1).expand_as(below)
    tally = key.new_zeros(len(key), found.shape[1] + 1).scatter_add_(1, below, one)
    rank = tally.flip(1).cumsum(1).flip(1)[:, 1:]                                  # (rows, S) rows at or above each
    hits = count[:, None] - torch.arange(found.shape[1], device=key.device)        # (rows, S) class rows at or above
    return (hits.clamp(min=0) / rank.clamp(min=1).double()).sum(1) / count.clamp(min=1)


def _order_key(score: Tensor) -> Tensor:
    """Distinct integers that sort by similarity, then lower index first: the float's bits made monotone, the index."""
    bits = (score + 0.0).view(torch.int32)                                         # (rows, N); -0 becomes +0
    monotone = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    column = torch.arange(score.shape[1], device=score.device)
    return monotone * 2**32 + (score.shape[1] - 1 - column)                        # (rows, N)


def _query_mean(value: Tensor, count: Tensor) -> float:
    """Mean over the rows that have another row of their class."""
    query = count > 0                                                              # (N,)
    if not query.any():
        raise RunError("evaluation: every class has a single image, so no image has anything to find; retrieval "
                       "metrics need a class with two images or more.")
    return value[query].double().mean().item()
