"""Proxy-Anchor loss: every class proxy is the anchor of the whole batch."""
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from criteria.base import Criterion, weighted_logsumexp
from utilities.pairwise import similarity, unit


class ProxyAnchor(Criterion):
    """Proxy-Anchor loss (Kim et al., "Proxy Anchor Loss for Deep Metric Learning", CVPR 2020, eq. 4).

        L = 1/|P+| sum_{k in P+} log(1 + sum_{i: y_i = k} w+_i exp(-a (s_ik - d)))
          + 1/C sum_k log(1 + sum_{i: y_i != k} w-_i exp(a (s_ik + d))),   s_ik = x_i . p_k / |p_k|

    P+ the classes in the batch, C all classes, a = alpha, d = delta; lr is the proxies' own learning rate. One weight
    an image and sign: w+_i multiplies the exponential of image i with its own proxy, w-_i those with all others (as
    published by LM-Metric). No deviation.
    """

    accepts_weight = "anchor"

    def __init__(self, n_classes: int, embed_dim: int, alpha: float = 32.0, delta: float = 0.1, lr: float = 1e-2):
        super().__init__()
        self.alpha, self.delta, self.own_lr = alpha, delta, lr
        self.proxies = nn.Parameter(torch.empty(n_classes, embed_dim))             # (C, D)
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (B, D), label (B,) below n_classes -> scalar."""
        s = similarity(x, unit(self.proxies.to(x.dtype)))                          # (B, C)
        own = label[:, None] == torch.arange(s.shape[-1], device=x.device)         # (B, C)
        pull = weighted_logsumexp(-self.alpha * (s - self.delta), weight[0], own, dim=0)  # (C,)
        push = weighted_logsumexp(self.alpha * (s + self.delta), weight[1], ~own, dim=0)  # (C,)
        return softplus(pull).sum() / own.any(0).sum() + softplus(push).mean()
