"""Proxy-Anchor loss: every class proxy is the anchor of the whole batch."""
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from criteria.base import Criterion, weighted_logsumexp
from criteria.proxies import cosine


class ProxyAnchor(Criterion):
    """Proxy-Anchor loss (Kim et al., "Proxy Anchor Loss for Deep Metric Learning", CVPR 2020, eq. 4).

        L = 1/|P+| sum_{k in P+} log(1 + sum_{i: y_i = k} w+_i exp(-a (s_ik - d)))
          + 1/C sum_k log(1 + sum_{i: y_i != k} w-_i exp(a (s_ik + d))),   s_ik = x_i . p_k / |p_k|

    P+ the classes in the batch, C all classes, a = alpha, d = delta; lr is the proxies' own learning rate. No
    deviation.

    Weights: w+_i multiplies the exponential of image i with its own proxy, w-_i those with all others (as published by
    LM-Metric).
    """

    accepts_weight = "anchor"

    def __init__(self, n_classes: int, embed_dim: int, alpha: float = 32.0, delta: float = 0.1, lr: float = 1e-2):
        super().__init__()
        self.alpha, self.delta, self.own_lr = alpha, delta, lr
        self.proxies = nn.Parameter(torch.empty(n_classes, embed_dim))  # (C, D)
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (B, D), label (B,) below n_classes -> scalar."""
        s = cosine(x, self.proxies, self.alpha)  # (B, C) a s_ik
        own, bound = label[:, None], self.alpha * self.delta  # (B, 1)
        present = torch.zeros_like(s[0], dtype=torch.bool).scatter(0, label, True)  # (C,) P+
        others = torch.ones_like(s, dtype=torch.bool).scatter(1, own, False)  # (B, C)
        pull = grouped_logsumexp(-s.gather(1, own).squeeze(1), weight[0], label, s.shape[1])  # (C,)
        push = weighted_logsumexp(s, weight[1], others, dim=0)  # (C,)
        return (softplus(pull + bound) * present).sum() / present.sum() + softplus(push + bound).mean()


def grouped_logsumexp(logit: Tensor, weight: Tensor | None, group: Tensor, groups: int) -> Tensor:
    """log sum w exp(logit) over the entries (B,) of each group, (G,); over none, or none of weight, a huge negative
    number with zero gradient. weight (B, 1)."""
    most = logit.detach().new_full((groups,), -torch.inf).scatter_reduce(0, group, logit.detach(), "amax")  # (G,)
    share = (logit - most[group]).exp()  # (B,)
    share = share if weight is None else weight[:, 0].to(logit.dtype) * share
    total = torch.zeros_like(most).index_add(0, group, share)  # (G,)
    some = total > 0
    return torch.where(some, torch.where(some, total, 1).log() + most, torch.finfo(logit.dtype).min / 2)
