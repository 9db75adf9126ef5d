"""Reward functions of the policy: REWARDS by the names of `--policy_reward`.

To add one, write a class with the call of Lookahead and a line in REWARDS; its constructor's arguments are the flags
`--policy_<argument>`. The logged reward is the same call.
"""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from batchminer.base import Triplets
from criteria.base import Criterion, PairWeights
from criteria.method.pairs import Pairs
from utilities.pairwise import average_precision, similarity, unit

Reward = Callable[[Criterion, Tensor, Tensor, Triplets | None, PairWeights, Pairs], Tensor]


class Lookahead:
    """Average precision after a virtual step under the action's weights: it depends on the action.

        g_k = dL(z; w_k)/dz,   z_k = unit(z - eta_k g_k),   r_ki = AP_i(z_k)

    eta_k scales the step so that the RMS norm of its rows is `step`. The network is not touched.
    """

    def __init__(self, step: float = 0.2):
        self.step = step

    def __call__(self, criterion: Criterion, z: Tensor, label: Tensor, triplets: Triplets | None,
                 weights: PairWeights, pairs: Pairs) -> Tensor:
        """z (B, D), label (B,), weights (K, B, 1 or B) -> reward of every image (K, B)."""
        moved = self.virtual_step(criterion, z, label, triplets, weights)  # (K, B, D)
        return batch_ap(moved, pairs.positive)

    def virtual_step(self, criterion: Criterion, z: Tensor, label: Tensor, triplets: Triplets | None,
                     weights: PairWeights) -> Tensor:
        """z (B, D) after one gradient step under each of K candidate weights, (K, B, D)."""
        def loss(rows: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
            return criterion(rows, label, triplets, PairWeights(positive, negative))

        z = z.detach()
        gradient = in_range(vmap(grad(loss), in_dims=(None, 0, 0))(z, *weights))  # (K, B, D)
        length = gradient.square().sum(-1).mean(-1).sqrt()  # (K,)
        length = length.clamp(min=torch.finfo(z.dtype).tiny)
        return unit(z - self.step / length[:, None, None] * gradient)


class BatchAP:
    """Average precision of the batch as it stands, as published.

    It does not depend on the action, so its policy gradient is zero on average (docs/method.md).
    """

    def __call__(self, criterion: Criterion, z: Tensor, label: Tensor, triplets: Triplets | None,
                 weights: PairWeights, pairs: Pairs) -> Tensor:
        """z (B, D), weights (K, B, 1 or B) -> (K, B), the same for all K."""
        return batch_ap(z.detach(), pairs.positive).expand(len(weights.positive), -1)


REWARDS: dict[str, type] = {
    "batch_ap": BatchAP,
    "lookahead": Lookahead,
}


def in_range(gradient: Tensor) -> Tensor:
    """Each of (K, B, D) times a power of two that brings its largest entry near one.

    Directions keep their bits; the square of a gradient below 1e-22, as of a low temperature where
    all classes are apart, would be zero.
    """
    largest = gradient.abs().amax((-2, -1), keepdim=True)  # (K, 1, 1)
    exponent = largest.frexp().exponent.clamp(min=-120, max=120)
    # ldexp of the whole gradient would compute the power for every entry
    return gradient * torch.ones_like(largest).ldexp(-exponent)


def batch_ap(z: Tensor, positive: Tensor) -> Tensor:
    """AP of every image as a query among the batch: z (..., B, D), positive (B, B) -> (..., B)."""
    return average_precision(similarity(unit(z)), positive)
