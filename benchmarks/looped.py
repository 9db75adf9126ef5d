"""Some criteria as the base framework writes them: one anchor or triplet after the other.

Peers of `criteria.py`, in this folder. They take x (B, D) unit rows and label (B,), and the margin
loss also the boundaries of the classes, (C,).
"""
import numpy as np
import torch
from torch.nn.functional import relu


def anchors(label):
    """(i, positives, negatives) of every anchor, the last two as masks (B,)."""
    rows = torch.arange(len(label))
    for i in rows:
        same = label == label[i]
        yield i, same & (rows != i), ~same


def triplets(x, label):
    """(anchor, positive, negative) of every anchor: the positive at random, the negative mined."""
    rows = x.detach().numpy()
    distance = np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0))  # (B, B)
    generator = np.random.default_rng(0)
    for i, same, other in anchors(label):
        n = draw_by_distance(generator, distance[i], other.numpy(), x.shape[1])
        yield i, generator.choice(np.flatnonzero(same)), n


def draw_by_distance(generator, d, other, dim):
    """A negative, drawn with the inverse density of its distance d (B,) on the unit sphere."""
    d = d.clip(0.5, 1.99)
    log_weight = (2 - dim) * np.log(d) + (3 - dim) / 2 * np.log(1 - d**2 / 4)
    weight = np.exp(log_weight - log_weight.max()) * other
    if weight.sum() == 0:
        weight = other
    return generator.choice(len(d), p=weight / weight.sum())


def loop_margin(x, label, beta):
    """Margin loss: the sum of the hinges over the number of those above zero."""
    hinges = []
    for i, p, n in triplets(x, label):
        near = (x[i] - x[p]).square().sum().add(1e-8).sqrt()
        far = (x[i] - x[n]).square().sum().add(1e-8).sqrt()
        boundary = beta[label[i]]
        hinges += [relu(near - boundary + 0.2), relu(boundary - far + 0.2)]
    hinges = torch.stack(hinges)
    return hinges.sum() / (hinges > 0).sum()


def loop_triplet(x, label):
    """Triplet loss."""
    losses = []
    for i, p, n in triplets(x, label):
        near = (x[i] - x[p]).square().sum()
        far = (x[i] - x[n]).square().sum()
        losses.append(relu(near - far + 0.2))
    return torch.stack(losses).mean()


def log1p_sum_exp(x):
    """log(1 + sum exp x)."""
    return x.exp().sum().log1p()


def loop_multisimilarity(x, label):
    """Multi-similarity loss with its mining."""
    losses = []
    for i, same, other in anchors(label):
        s = x @ x[i]
        near = s[same]
        far = s[other]
        hard_near = near[near - 0.1 < far.max()]
        hard_far = far[far + 0.1 > near.min()]
        if not len(hard_near) or not len(hard_far):
            losses.append(s.sum() * 0)
            continue
        pull = log1p_sum_exp(-2 * (hard_near - 0.5)) / 2
        push = log1p_sum_exp(40 * (hard_far - 0.5)) / 40
        losses.append(pull + push)
    return torch.stack(losses).mean()


def loop_npair(x, label):
    """N-pair loss of every anchor with its first positive."""
    losses = []
    for i, same, other in anchors(label):
        s = x @ x[i]
        losses.append(log1p_sum_exp(s[other] - s[same][0]))
    return torch.stack(losses).mean()


LOOPS = {
    "multisimilarity": loop_multisimilarity,
    "npair": loop_npair,
    "triplet": loop_triplet,
}
