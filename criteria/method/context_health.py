"""Whether the context lives, in numbers.

It does where it differs between images, says something of their class, and is decoded from e alone.
"""
import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from architectures.network import Network
from criteria.method.health import related_batches
from criteria.method.lm_metric import LMMetric, Related


class Contexts(NamedTuple):
    """Of N images: context c, what the memory learns and decodes, embedding e, (N, D), labels (N,)."""

    context: Tensor
    target: Tensor
    decoded: Tensor
    embedding: Tensor
    label: Tensor


def has_health(network: Network) -> bool:
    """Whether the network decodes a context that depends on the image; nothing is measured otherwise."""
    return network.memory is not None and network.memory.tells_images_apart


def context_record(method: LMMetric, network: Network, related: Related, label: Tensor,
                   index: Tensor) -> dict[str, float]:
    """`context_numbers` of one batch; synchronises with the host."""
    return context_numbers(contexts(method, network, related, label, index))


def held_out_context(method: LMMetric, network: Network, batches: Iterable,
                     device: torch.device, amp: str = "none") -> dict[str, float]:
    """`context_numbers` of all images together, of classes that were not trained on; amp: as `--amp`."""
    parts = []
    for related, label, index in related_batches(method, network, batches, device, amp):
        parts.append(contexts(method, network, related, label, index, trained=False))
    return context_numbers(Contexts(*map(torch.cat, zip(*parts))))


@torch.no_grad()
def contexts(method: LMMetric, network: Network, related: Related, label: Tensor,
             index: Tensor, trained: bool = True) -> Contexts:
    """A batch's contexts, decoded as at test time: no statistics of the memory move.

    trained: whether `index` counts the training images, so that the cross-batch memory may hold them.
    """
    memory = network.memory
    training = memory.training
    memory.eval()
    try:
        decoded = memory.context(related.embedding, index)
    finally:
        memory.train(training)
    own = index if trained else torch.full_like(index, -1)
    target = method.memory_logit(related, label, own)  # (B, D)
    return Contexts(related.context_logit.sigmoid(), target.sigmoid(), decoded, related.embedding, label)


@torch.no_grad()
def context_numbers(rows: Contexts) -> dict[str, float]:
    """Four numbers, without those that are not defined, as where all contexts are equal.

        context_std          mean over dimensions of the standard deviation of c over the images
        context_ratio        sqrt(sum |c - mean c|^2 / sum |e - mean e|^2)
        context_r2           1 - sum |c - c_hat|^2 / sum |c - mean c|^2, c being what the memory learns
        context_class_share  `class_share` of c
    """
    c = rows.context.double()
    total = scatter(c)
    target = rows.target.double()
    error = (target - rows.decoded).square().sum()
    values = {
        "context_std": c.std(0).mean(),
        "context_ratio": (total / scatter(rows.embedding.double())).sqrt(),
        "context_r2": 1 - error / scatter(target),
        "context_class_share": class_share(c, rows.label),
    }
    numbers = torch.stack([*values.values()]).tolist()
    return {name: number for name, number in zip(values, numbers) if math.isfinite(number)}


def class_share(x: Tensor, label: Tensor) -> Tensor:
    """The share of the variance of x (N, D) that K classes explain, corrected for chance: epsilon squared.

        1 - (sum |x - mean of its class|^2 / (N - K)) / (sum |x - mean|^2 / (N - 1))

    1: images of a class are equal; 0 on average where labels say nothing (Kelley 1935).
    """
    _, place = label.unique(return_inverse=True)  # (N,)
    member = one_hot(place).to(x.dtype)  # (N, K)
    images, classes = member.shape
    means = member.T @ x / member.sum(0)[:, None]  # (K, D)
    within = (x - means[place]).square().sum() / (images - classes)
    return 1 - within / (scatter(x) / (images - 1))


def scatter(x: Tensor) -> Tensor:
    """Sum of the squared distances of the rows (N, D) from their mean, a scalar."""
    return (x - x.mean(0)).square().sum()
