"""Every criterion as its first version would be written: one tuple, anchor or image after the other in Python, or for
rankings all B x B x B comparisons at once. Peers of `criteria.py`, in this folder.

LOOPS, WITH_PARAMETERS: functions of (x (B, D) unit rows, label (B,)), in the second also of what the criterion learns.
"""
import numpy as np
import torch
from torch.nn.functional import cross_entropy, relu, softplus


def hinge_pair(a, p, n):
    """Contrastive loss of one triplet."""
    return (a - p).norm() + relu(1 - (a - n).norm())


def hinge_triplet(a, p, n):
    """Triplet loss of one triplet."""
    return relu((a - p).square().sum() - (a - n).square().sum() + 0.2)


def hinge_margin(a, p, n, beta):
    """The two hinges of the margin loss of one triplet."""
    near, far = (((a - other) ** 2).sum().add(1e-8).sqrt() for other in (p, n))
    return torch.stack([relu(near - beta + 0.2), relu(beta - far + 0.2)])


def hinge_snr(a, p, n):
    """SNR loss of one triplet."""
    return relu((a - p).var() / a.var() - (a - n).var() / a.var() + 0.2) + 0.005 * a.sum().abs()


def anchor_gpw(s, same, other):
    """Plain pair loss of one anchor."""
    return s[other].mean() - s[same].mean()


def anchor_multisimilarity(s, same, other):
    """Multi-similarity loss of one anchor with its mining, as in the base framework."""
    near, far = s[same], s[other]
    near, far = near[near - 0.1 < far.max()], far[far + 0.1 > near.min()]
    if not len(near) or not len(far):
        return s.sum() * 0
    return (1 + (-2 * (near - 0.5)).exp().sum()).log() / 2 + (1 + (40 * (far - 0.5)).exp().sum()).log() / 40


def anchor_lifted(s, same, other):
    """Generalised lifted structure of one anchor on unit rows."""
    d = (2 - 2 * s).clamp(min=1e-8).sqrt()
    return relu(d[same].exp().sum().log() + (1 - d[other]).exp().sum().log())


def anchor_npair(s, same, other):
    """N-pair loss of one anchor with one positive."""
    return (1 + (s[other] - s[same][0]).exp().sum()).log()


def anchor_supcon(s, same, other):
    """SupCon of one anchor."""
    s = s / 0.1
    return -(s[same] - torch.cat([s[same], s[other]]).logsumexp(0)).mean()


def anchor_circle(s, same, other):
    """Circle loss of one anchor."""
    near, far = s[same], s[other]
    pull = -80 * relu(1.4 - near.detach()) * (near - 0.6)
    push = 80 * relu(far.detach() + 0.4) * (far - 0.4)
    return softplus(pull.logsumexp(0) + push.logsumexp(0))


def loop_angular(x, label):
    """Angular loss with its N-pair term on unit rows, one anchor with one positive after the other."""
    s, losses, everything = x @ x.T, [], torch.arange(len(x))
    for i in range(len(x)):
        p, other = ((label == label[i]) & (everything != i)).nonzero()[0, 0], label != label[i]
        angular = (1 + (4 * (s[i, other] + s[p, other]) - 4 * s[i, p]).exp().sum()).log()
        losses.append((1 + (s[i, other] - s[i, p]).exp().sum()).log() + 2 * angular)
    return torch.stack(losses).mean()


def loop_quadruplets(x, label):
    """Quadruplet loss, one quadruplet after the other."""
    rows, generator, losses = label.numpy(), np.random.default_rng(0), []
    for i in range(len(rows)):
        p = generator.choice(np.flatnonzero((rows == rows[i]) & (np.arange(len(rows)) != i)))
        n = generator.choice(np.flatnonzero(rows != rows[i]))
        m = generator.choice(np.flatnonzero((rows != rows[i]) & (rows != rows[n])))
        near = (x[i] - x[p]).norm()
        losses.append(relu(near - (x[i] - x[n]).norm() + 0.2) + relu(near - (x[n] - x[m]).norm() + 0.2))
    return torch.stack(losses).mean()


def loop_histogram(x, label):
    """Histogram loss, one node after the other."""
    s, same, upper = x @ x.T, label[:, None] == label, torch.ones(len(x), len(x)).triu(1).bool()
    step, h = 2 / 64, []
    for r in range(65):
        share = relu(1 - (s - (-1 + r * step)).abs() / step)
        h.append([share[mask].sum() / mask.sum() for mask in (same & upper, ~same & upper)])
    positive, negative = (torch.stack(column) for column in zip(*h))
    return (negative * positive.cumsum(0)).sum()


def loop_proxyanchor(x, label, proxies):
    """Proxy-Anchor, one proxy after the other."""
    terms = []
    for k, proxy in enumerate(proxies):
        s, own = 32 * (x @ (proxy / proxy.norm())), label == k
        terms.append((1 + (3.2 - s[own]).exp().sum()).log() + (1 + (s[~own] + 3.2).exp().sum()).log())
    return torch.stack(terms).mean()


def loop_proxynca(x, label, proxies):
    """Proxy-NCA, one image after the other."""
    d = [18 - 18 * (proxies / proxies.norm(dim=1, keepdim=True)) @ row for row in x]
    return torch.stack([row[y] + (-torch.cat([row[:y], row[y + 1:]])).logsumexp(0)
                        for row, y in zip(d, label.tolist())]).mean()


def loop_softtriplet(x, label, proxies):
    """SoftTriple with two centroids a class, one image after the other, without its regulariser."""
    centroids = torch.stack([proxies, proxies.roll(1, 1)], 1)                      # (C, 2, D)
    centroids = centroids / centroids.norm(dim=-1, keepdim=True)
    losses = []
    for row, y in zip(x, label):
        s = centroids @ row                                                        # (C, 2)
        z = 8 * (((s / 0.1).softmax(-1) * s).sum(-1) - 0.01 * torch.nn.functional.one_hot(y, len(s)))
        losses.append(cross_entropy(z[None], y[None]))
    return torch.stack(losses).mean()


def loop_triplets(function, reduce=torch.mean):
    """Mine and compare one triplet after the other, as the base framework does (distances, then numpy draws). What a
    class learns (boundaries, (C,)) comes third, and its entry goes to the function."""
    def run(x, label, learned=None):
        rows, labels, losses = x.detach().numpy(), label.numpy(), []
        d = np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0)).clip(0.5, 1.99)
        generator = np.random.default_rng(0)
        for i in range(len(rows)):
            q = (2 - rows.shape[1]) * np.log(d[i]) + (3 - rows.shape[1]) / 2 * np.log(1 - d[i] ** 2 / 4)
            q = np.exp(q - q.max()) * (labels != labels[i])
            same = np.flatnonzero((labels == labels[i]) & (np.arange(len(labels)) != i))
            n = generator.choice(len(rows), p=q / q.sum()) if q.sum() > 0 else generator.choice(np.flatnonzero(
                labels != labels[i]))
            own = () if learned is None else (learned[label[i]],)
            losses.append(function(x[i], x[generator.choice(same)], x[n], *own))
        return reduce(torch.stack(losses))
    return run


def loop_anchors(function):
    """One anchor after the other."""
    def run(x, label):
        losses, everything = [], torch.arange(len(x))
        for i in range(len(x)):
            same = (label == label[i]) & (everything != i)
            losses.append(function(x @ x[i], same, label != label[i]))
        return torch.stack(losses).mean()
    return run


def loop_images(transform):
    """Cross-entropy against proxies, one image after the other."""
    def run(x, label, proxies):
        directions = proxies / proxies.norm(dim=1, keepdim=True)
        return torch.stack([cross_entropy(transform(directions @ x[i], label[i])[None], label[i:i + 1])
                            for i in range(len(x))]).mean()
    return run


def arcface_logit(cosine, y):
    """Logits of one image."""
    own = torch.nn.functional.one_hot(y, len(cosine)).bool()
    return 16 * torch.where(own, (cosine.clamp(-0.9999, 0.9999).acos() + 0.5).cos(), cosine)


def cosface_logit(cosine, y):
    """Logits of one image."""
    return 64 * (cosine - 0.35 * torch.nn.functional.one_hot(y, len(cosine)))


def cubic(function):
    """Rankings in the form that compares every item with every item for every query."""
    def run(x, label):
        s = x @ x.T
        itself = torch.eye(len(x), dtype=torch.bool)
        same = (label[:, None] == label) & ~itself
        gap = s[:, None, :] - s[:, :, None]                                        # (B, B, B) s_qj - s_qi
        kept = ~itself[:, None, :] & ~itself                                       # j is neither q nor i
        return function(gap, same, kept)
    return run


def cubic_smoothap(gap, same, kept):
    """One minus smoothed AP, the query left out."""
    g = (gap / 0.01).sigmoid() * kept
    precision = (1 + (g * same[:, None, :]).sum(-1)) / (1 + g.sum(-1))             # (B, B)
    return 1 - ((precision * same).sum(-1) / same.sum(-1)).mean()


def cubic_supap(gap, same, kept):
    """One minus the lower bound of AP: positives by the step itself, negatives by a bound that grows."""
    bound = torch.where(gap > 0.05, 1.4933 + 100 * (gap - 0.05), (gap / 0.01).sigmoid() + 0.5 * (gap >= 0))
    positives = ((gap >= 0) & kept & same[:, None, :]).sum(-1)
    negatives = (bound * (kept & ~same[:, None, :])).sum(-1)
    precision = (1 + positives) / (1 + positives + negatives)                      # (B, B)
    return 1 - ((precision * same).sum(-1) / same.sum(-1)).mean()


def cubic_recall(gap, same, kept):
    """One minus the recall surrogate, k in 1, 2, 4, 8, 16."""
    rank = ((gap / 0.01).sigmoid() * kept).sum(-1)                                 # (B, B)
    return 1 - sum((((k - 1 - rank).sigmoid() * same).sum(-1) / same.sum(-1)).mean() for k in (1, 2, 4, 8, 16)) / 5


LOOPS = {
    "contrastive": loop_triplets(hinge_pair), "triplet": loop_triplets(hinge_triplet),
    "snr": loop_triplets(hinge_snr),
    "gpw": loop_anchors(anchor_gpw), "multisimilarity": loop_anchors(anchor_multisimilarity),
    "lifted": loop_anchors(anchor_lifted), "npair": loop_anchors(anchor_npair), "supcon": loop_anchors(anchor_supcon),
    "circle": loop_anchors(anchor_circle), "angular": loop_angular,
    "quadruplet": loop_quadruplets, "histogram": loop_histogram,
    "smoothap": cubic(cubic_smoothap), "supap": cubic(cubic_supap), "recallatk": cubic(cubic_recall),
}
WITH_PARAMETERS = {                                                                # loops that take what is learned
    "margin": loop_triplets(hinge_margin, lambda hinges: hinges.sum() / (hinges > 0).sum()),
    "softmax": loop_images(lambda cosine, y: cosine / 0.05), "arcface": loop_images(arcface_logit),
    "cosface": loop_images(cosface_logit), "proxynca": loop_proxynca, "proxyanchor": loop_proxyanchor,
    "softtriplet": loop_softtriplet,
}
