"""Rewards, baselines and the score-function loss of the pair-weighting policy; nothing else.

Policy gradient (Williams 1992): grad E_a[r(a)] = E_a[(r(a) - b) grad log pi(a)], for any b that does not depend on a.
A reward that does not depend on the action therefore has gradient zero on average, whatever it measures.
"""
import torch
from torch import Tensor
from torch.func import grad, vmap

from batchminer.base import Triplets
from criteria.base import Criterion, PairWeights
from utilities.pairwise import average_precision, positive_mask, similarity, unit


def batch_ap(z: Tensor, label: Tensor) -> Tensor:
    """AP of every image among the batch as it stands, (..., B); the published reward: it ignores the action."""
    return average_precision(similarity(unit(z)), positive_mask(label))


def virtual_step(criterion: Criterion, z: Tensor, label: Tensor, triplets: Triplets | None, weight: PairWeights,
                 step: float) -> Tensor:
    """Move the embeddings themselves one gradient step under each of K candidate weights.

    g_k = dL(z; w_k)/dz; z_k = unit(z - eta_k g_k), eta_k such that the rows of the step have RMS length `step`.
    z (B, D), weight (K, B, 1 or B) -> (K, B, D). The network is not touched.
    """
    def loss(rows: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return criterion(rows, label, triplets, PairWeights(positive, negative))

    gradient = vmap(grad(loss), in_dims=(None, 0, 0))(z.detach(), *weight)         # (K, B, D)
    length = gradient.square().sum(-1).mean(-1).sqrt().clamp(min=torch.finfo(z.dtype).tiny)  # (K,)
    return unit(z.detach() - step / length[:, None, None] * gradient)


def lookahead(criterion: Criterion, z: Tensor, label: Tensor, triplets: Triplets | None, weight: PairWeights,
              step: float = 0.2) -> Tensor:
    """AP of every image after the virtual step of each candidate, (K, B): a reward that the action causes."""
    return batch_ap(virtual_step(criterion, z, label, triplets, weight, step), label)


def assign(reward: Tensor, deciders: int, mix: float) -> Tensor:
    """Credit the K x B rewards to the deciders, (K, N).

    One decider gets the batch's mean; an anchor gets (1 - mix) times its own AP plus mix times the batch's mean; a pair
    (i, j), number i B + j, what its anchor i gets.
    """
    mean = reward.mean(-1, keepdim=True)                                           # (K, 1)
    if deciders == 1:
        return mean
    return ((1 - mix) * reward + mix * mean).repeat_interleave(deciders // reward.shape[1], -1)


def leave_one_out(reward: Tensor) -> Tensor:
    """Reward minus the mean reward of the other K - 1 samples, (K, N): unbiased, since that mean is independent."""
    number = len(reward)
    return (reward - reward.mean(0)) * (number / (number - 1))


def standardise(advantage: Tensor, floor: float = 0.01) -> Tensor:
    """Advantage divided by its spread over all K x N entries, so that the step does not depend on the AP's scale.

    A spread below `floor` (AP) counts as the floor: where every action does equally well, as on the first batches and
    on solved ones, the differences are noise, and dividing by their spread would have the policy learn it.
    """
    return advantage / advantage.square().mean().sqrt().clamp(min=floor)


def score_function_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """-mean(advantage log pi): its gradient is minus the policy gradient. log_prob, advantage (K, N) -> scalar."""
    return -(advantage.detach() * log_prob).mean()
