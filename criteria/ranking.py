"""What the losses over rankings share: which items are ranked, how many stand above each, and the mean over queries.

Only the positives of a query are ranked: A x P x N comparisons for A queries and N items, not A x N x N.
"""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp

ENTRIES = 2 ** 24                                # anchors x ranked items x items that are compared at once, at most


class InBlocks(torch.autograd.Function):
    """function(item, s, weight) in blocks of so many rows; the gradient computes each block again, so that only one
    block's comparisons are held at a time."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Callable, rows: int, *tensors: Tensor) -> Tensor:
        return torch.cat([function(*block) for block in zip(*(t.split(rows) for t in tensors))])

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.function, ctx.rows, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        parts = [vjp(lambda s, w, item=item: ctx.function(item, s, w), s, weight)[1](above)
                 for item, s, weight, above in zip(*(t.split(ctx.rows) for t in (*ctx.saved_tensors, gradient)))]
        return None, None, None, *map(torch.cat, zip(*parts))


def ranked(positive: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's positives stand, padded to the longest row: index (A, P), and which entries are real (A, P).

    P, the size of the largest class, is read from the labels: the one value that a GPU is waited for.
    """
    real, item = positive.float().topk(int(positive.sum(-1).max()), dim=-1)
    return item, real > 0


def standing_above(count: Callable, item: Tensor, s: Tensor, w_positive: Tensor, w_negative: Tensor) -> Tensor:
    """How much stands above each ranked item, (A, P, 2): positives and negatives, weighted.

    count(gap, weight) -> (A, P, 2) sums over the items j; gap (A, P, N) is s_qj - s_qi, and -inf where j is i, which
    does not outrank itself; weight (A, N, 2). Above ENTRIES comparisons the anchors are taken in blocks.
    """
    def compare(item: Tensor, s: Tensor, weight: Tensor) -> Tensor:
        gap = s[:, None, :] + (-s.gather(1, item))[:, :, None]  # (A, P, N)
        return count(gap.scatter_(-1, item[:, :, None], -torch.inf), weight)  # (A, P, 2)

    tensors = item, s, torch.stack([w_positive, w_negative], -1)
    rows = max(1, ENTRIES // max(1, item.shape[1] * s.shape[1]))
    return compare(*tensors) if rows >= len(s) else InBlocks.apply(compare, rows, *tensors)


def sigmoids(gap: Tensor, weight: Tensor) -> Tensor:
    """Items above, each counted by the sigmoid of its gap: (A, P, N), (A, N, 2) -> (A, P, 2)."""
    return gap.sigmoid() @ weight


def mean_over_queries(term: Tensor, real: Tensor, *more: Tensor) -> Tensor:
    """Mean of the terms (A, P) over a query's ranked items, plus `more` (A,), over the queries that rank any."""
    size = real.sum(-1)  # (A,)
    of_query = sum(more, (term * real).sum(-1) / size.clamp(min=1))  # (A,)
    return (of_query * (size > 0)).sum() / (size > 0).sum().clamp(min=1)
