"""Every criterion as its first version would be written: one tuple, anchor or image after the other.

Rankings make all B x B x B comparisons at once. Peers of `criteria.py`, in this folder.

LOOPS, WITH_PARAMETERS: functions of (x (B, D) unit rows, label (B,)), in the second also of the
learned parameters.
"""
import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize, one_hot, relu, softplus


def anchors(label):
    """(i, positives, negatives) of every anchor, the last two as masks (B,)."""
    rows = torch.arange(len(label))
    for i in rows:
        same = label == label[i]
        yield i, same & (rows != i), ~same


def loop_anchors(function):
    """The mean over anchors of function(similarities to all rows, positives, negatives)."""
    def run(x, label):
        losses = [function(x @ x[i], same, other) for i, same, other in anchors(label)]
        return torch.stack(losses).mean()
    return run


def log1p_sum_exp(x):
    """log(1 + sum exp x)."""
    return x.exp().sum().log1p()


def anchor_gpw(s, same, other):
    """Plain pair loss of one anchor."""
    return s[other].mean() - s[same].mean()


def anchor_multisimilarity(s, same, other):
    """Multi-similarity loss of one anchor with its mining, as in the base framework."""
    near = s[same]
    far = s[other]
    hard_near = near[near - 0.1 < far.max()]
    hard_far = far[far + 0.1 > near.min()]
    if not len(hard_near) or not len(hard_far):
        return s.sum() * 0
    pull = log1p_sum_exp(-2 * (hard_near - 0.5)) / 2
    push = log1p_sum_exp(40 * (hard_far - 0.5)) / 40
    return pull + push


def anchor_lifted(s, same, other):
    """Generalised lifted structure of one anchor on unit rows."""
    d = (2 - 2 * s).clamp(min=1e-8).sqrt()
    return relu(d[same].logsumexp(0) + (1 - d[other]).logsumexp(0))


def anchor_npair(s, same, other):
    """N-pair loss of one anchor with one positive."""
    return log1p_sum_exp(s[other] - s[same][0])


def anchor_supcon(s, same, other):
    """SupCon of one anchor."""
    s = s / 0.1
    return s[same | other].logsumexp(0) - s[same].mean()


def anchor_circle(s, same, other):
    """Circle loss of one anchor."""
    near = s[same]
    far = s[other]
    pull = -80 * relu(1.4 - near.detach()) * (near - 0.6)
    push = 80 * relu(far.detach() + 0.4) * (far - 0.4)
    return softplus(pull.logsumexp(0) + push.logsumexp(0))


def loop_angular(x, label):
    """Angular loss with its N-pair term on unit rows, one anchor with one positive at a time."""
    s = x @ x.T
    losses = []
    for i, same, other in anchors(label):
        p = same.nonzero()[0, 0]
        npair = log1p_sum_exp(s[i, other] - s[i, p])
        corner = 4 * (s[i, other] + s[p, other] - s[i, p])
        losses.append(npair + 2 * log1p_sum_exp(corner))
    return torch.stack(losses).mean()


def loop_histogram(x, label):
    """Histogram loss, one node after the other."""
    s = x @ x.T
    upper = torch.ones(len(x), len(x)).triu(1).bool()
    same = label[:, None] == label
    width = 2 / 64
    positive = []
    negative = []
    for node in range(65):
        near_node = relu(1 - (s + 1 - node * width).abs() / width)
        positive.append(near_node[same & upper].mean())
        negative.append(near_node[~same & upper].mean())
    return (torch.stack(negative) * torch.stack(positive).cumsum(0)).sum()


def hinge_pair(a, p, n):
    """Contrastive loss of one triplet."""
    return (a - p).norm() + relu(1 - (a - n).norm())


def hinge_triplet(a, p, n):
    """Triplet loss of one triplet."""
    return relu((a - p).square().sum() - (a - n).square().sum() + 0.2)


def hinge_margin(a, p, n, beta):
    """The two hinges of the margin loss of one triplet."""
    near = (a - p).square().sum().add(1e-8).sqrt()
    far = (a - n).square().sum().add(1e-8).sqrt()
    return relu(torch.stack([near - beta, beta - far]) + 0.2)


def hinge_snr(a, p, n):
    """SNR loss of one triplet."""
    gap = (a - p).var() - (a - n).var()
    return relu(gap / a.var() + 0.2) + 0.005 * a.sum().abs()


def mean_of_active(hinges):
    """The sum of hinges over the number of those above zero."""
    return hinges.sum() / (hinges > 0).sum()


def draw(generator, mask):
    """One of the rows that a mask holds."""
    return generator.choice(np.flatnonzero(mask))


def draw_by_distance(generator, d, other, dim):
    """A negative, drawn with the inverse density of its distance d (B,) on the unit sphere."""
    d = d.clip(0.5, 1.99)
    log_weight = (2 - dim) * np.log(d) + (3 - dim) / 2 * np.log(1 - d**2 / 4)
    weight = np.exp(log_weight - log_weight.max()) * other
    if weight.sum() == 0:
        return draw(generator, other)
    return generator.choice(len(d), p=weight / weight.sum())


def loop_triplets(function, reduce=torch.mean):
    """Mine and compare one triplet after the other, as the base framework does.

    The boundaries that classes learn, (C,), come third, and an anchor's own goes to the function.
    """
    def run(x, label, learned=None):
        rows = x.detach().numpy()
        distance = np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0))
        generator = np.random.default_rng(0)
        losses = []
        for i, same, other in anchors(label):
            n = draw_by_distance(generator, distance[i], other.numpy(), x.shape[1])
            p = draw(generator, same)
            own = () if learned is None else (learned[label[i]],)
            losses.append(function(x[i], x[p], x[n], *own))
        return reduce(torch.stack(losses))
    return run


def loop_quadruplets(x, label):
    """Quadruplet loss, one quadruplet after the other."""
    generator = np.random.default_rng(0)
    losses = []
    for i, same, other in anchors(label):
        p = draw(generator, same)
        n = draw(generator, other)
        m = draw(generator, other & (label != label[n]))
        near = (x[i] - x[p]).norm() + 0.2
        losses.append(relu(near - (x[i] - x[n]).norm()) + relu(near - (x[n] - x[m]).norm()))
    return torch.stack(losses).mean()


def loop_proxyanchor(x, label, proxies):
    """Proxy-Anchor, one proxy after the other."""
    terms = []
    for k, proxy in enumerate(normalize(proxies)):
        s = 32 * (x @ proxy)
        own = label == k
        pull = log1p_sum_exp(3.2 - s[own])
        push = log1p_sum_exp(3.2 + s[~own])
        terms.append(pull + push)
    return torch.stack(terms).mean()


def loop_images(logits):
    """Cross-entropy of logits(row, class, unit proxies), one image after the other."""
    def run(x, label, proxies):
        proxies = normalize(proxies)
        losses = [cross_entropy(logits(row, y, proxies), y) for row, y in zip(x, label)]
        return torch.stack(losses).mean()
    return run


def softmax_logits(row, y, proxies):
    """Logits of one image."""
    return proxies @ row / 0.05


def arcface_logits(row, y, proxies):
    """Logits of one image."""
    cosine = proxies @ row
    own = one_hot(y, len(cosine)).bool()
    turned = (cosine.clamp(-0.9999, 0.9999).acos() + 0.5).cos()
    return 16 * torch.where(own, turned, cosine)


def cosface_logits(row, y, proxies):
    """Logits of one image."""
    cosine = proxies @ row
    return 64 * (cosine - 0.35 * one_hot(y, len(cosine)))


def softtriplet_logits(row, y, proxies):
    """Logits of one image: SoftTriple with two centroids a class, without its regulariser."""
    centroids = torch.stack([proxies, proxies.roll(1, 1)], 1)  # (C, 2, D)
    s = centroids @ row  # (C, 2)
    cosine = ((s / 0.1).softmax(-1) * s).sum(-1)
    return 8 * (cosine - 0.01 * one_hot(y, len(cosine)))


def loop_proxynca(x, label, proxies):
    """Proxy-NCA, one image after the other."""
    proxies = normalize(proxies)
    losses = []
    for row, y in zip(x, label):
        d = 18 - 18 * proxies @ row
        other = torch.arange(len(d)) != y
        losses.append(d[y] + (-d[other]).logsumexp(0))
    return torch.stack(losses).mean()


def cubic(rank_loss):
    """Rankings in the form that compares every item with every item for every query."""
    def run(x, label):
        s = x @ x.T
        itself = torch.eye(len(x), dtype=torch.bool)
        same = (label[:, None] == label) & ~itself
        gap = s[:, None, :] - s[:, :, None]  # (B, B, B) s_qj - s_qi
        # j is neither q nor i
        kept = ~itself[:, None, :] & ~itself
        return rank_loss(gap, same, kept)
    return run


def one_minus_ap(positives, items, same):
    """One minus the mean AP; positives, items (B, B): how many are ranked above item i of query q."""
    precision = (1 + positives) / (1 + items)  # (B, B)
    return 1 - mean_over_positives(precision, same)


def mean_over_positives(value, same):
    """The mean over queries of the mean of value (B, B) over a query's positives."""
    return ((value * same).sum(-1) / same.sum(-1)).mean()


def cubic_smoothap(gap, same, kept):
    """One minus smoothed AP, the query left out."""
    above = (gap / 0.01).sigmoid() * kept
    positives = (above * same[:, None, :]).sum(-1)
    return one_minus_ap(positives, above.sum(-1), same)


def cubic_supap(gap, same, kept):
    """One minus the lower bound of AP: positives by the step, negatives by a bound that grows."""
    line = 1.4933 + 100 * (gap - 0.05)
    bound = torch.where(gap > 0.05, line, (gap / 0.01).sigmoid() + 0.5 * (gap >= 0))
    positives = ((gap >= 0) & kept & same[:, None, :]).sum(-1)
    negatives = (bound * (kept & ~same[:, None, :])).sum(-1)
    return one_minus_ap(positives, positives + negatives, same)


def cubic_recall(gap, same, kept):
    """One minus the recall surrogate, k in 1, 2, 4, 8, 16."""
    rank = ((gap / 0.01).sigmoid() * kept).sum(-1)  # (B, B)
    recalls = [mean_over_positives((k - 1 - rank).sigmoid(), same) for k in (1, 2, 4, 8, 16)]
    return 1 - sum(recalls) / 5


LOOPS = {
    "angular": loop_angular,
    "circle": loop_anchors(anchor_circle),
    "contrastive": loop_triplets(hinge_pair),
    "gpw": loop_anchors(anchor_gpw),
    "histogram": loop_histogram,
    "lifted": loop_anchors(anchor_lifted),
    "multisimilarity": loop_anchors(anchor_multisimilarity),
    "npair": loop_anchors(anchor_npair),
    "quadruplet": loop_quadruplets,
    "recallatk": cubic(cubic_recall),
    "smoothap": cubic(cubic_smoothap),
    "snr": loop_triplets(hinge_snr),
    "supap": cubic(cubic_supap),
    "supcon": loop_anchors(anchor_supcon),
    "triplet": loop_triplets(hinge_triplet),
}
WITH_PARAMETERS = {
    "arcface": loop_images(arcface_logits),
    "cosface": loop_images(cosface_logits),
    "margin": loop_triplets(hinge_margin, mean_of_active),
    "proxyanchor": loop_proxyanchor,
    "proxynca": loop_proxynca,
    "softmax": loop_images(softmax_logits),
    "softtriplet": loop_images(softtriplet_logits),
}
