"""What the losses over rankings share: the ranked items, what stands above each, and the mean.

Only the positives of a query are ranked: A x P x N comparisons for A queries and N items, not A x N
x N.
"""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp

# most comparisons at once: anchors x ranked items x items
ENTRIES = 2**24


class InBlocks(torch.autograd.Function):
    """function(item, s, weight) in blocks of so many rows.

    The gradient computes each block again, so that only one block's comparisons are held at a time.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Callable, rows: int, *tensors: Tensor) -> Tensor:
        return torch.cat([function(*block) for block in split(rows, *tensors)])

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.function, ctx.rows, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        parts = []
        for item, s, weight, above in split(ctx.rows, *ctx.saved_tensors, gradient):
            _, pull_back = vjp(lambda s, w, item=item: ctx.function(item, s, w), s, weight)
            parts.append(pull_back(above))
        return None, None, None, *map(torch.cat, zip(*parts))


def split(rows: int, *tensors: Tensor) -> zip:
    """Blocks of so many rows of all tensors together."""
    return zip(*(tensor.split(rows) for tensor in tensors))


def standing_above(
    count: Callable, s: Tensor, item: Tensor, w_positive: Tensor, w_negative: Tensor
) -> Tensor:
    """What stands above the ranked items (A, P) of each query, (A, P, 2).

    The last axis is positives and negatives above, weighted. count(gap, weight) -> (A, P, 2) sums
    over the items j; gap (A, P, N) is s_qj - s_qi, and -inf where j is i, which does not outrank
    itself; weight (A, 2, N). Above ENTRIES comparisons the anchors are taken in blocks.
    """

    def compare(item: Tensor, s: Tensor, weight: Tensor) -> Tensor:
        own = s.gather(1, item)  # (A, P)
        # added, not written into the gaps: a gradient passes through a sum as it is
        itself = item.new_zeros(*item.shape, s.shape[1], dtype=s.dtype)
        itself = itself.scatter_(-1, item[:, :, None], -torch.inf)  # (A, P, N)
        gap = s[:, None, :] - own[:, :, None] + itself  # (A, P, N)
        return count(gap, weight)  # (A, P, 2)

    # a row each: side by side in the last axis, stack and product take several times as long
    weight = torch.stack([w_positive, w_negative], 1)  # (A, 2, N)
    of_one_anchor = item.shape[1] * s.shape[1]
    rows = max(1, ENTRIES // max(1, of_one_anchor))
    if rows >= len(s):
        return compare(item, s, weight)
    return InBlocks.apply(compare, rows, item, s, weight)


def sigmoids(gap: Tensor, weight: Tensor) -> Tensor:
    """Items above, each counted by the sigmoid of its gap: (A, P, N), (A, 2, N) -> (A, P, 2)."""
    return gap.sigmoid() @ weight.mT


def mean_over_queries(term: Tensor, real: Tensor, *more: Tensor) -> Tensor:
    """Mean of the terms (A, P) over a query's ranked items, plus `more` (A,), over the queries that
    rank any."""
    of_query = (term * real).sum(-1) / real.sum(-1).clamp(min=1)  # (A,)
    ranks_any = real.any(-1)  # (A,)
    return (sum(more, of_query) * ranks_any).sum() / ranks_any.sum().clamp(min=1)
