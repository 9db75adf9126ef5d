"""Proxy-Anchor loss: every class proxy is the anchor of the whole batch."""
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from criteria.proxies import ProxyCriterion, cosine
from utilities.pairwise import lowest, masked_mean, weighted_logsumexp
from utilities.ranges import Finite, NonNegative, Positive


class ProxyAnchor(ProxyCriterion):
    """Proxy-Anchor loss (Kim et al., "Proxy Anchor Loss for Deep Metric Learning", CVPR 2020, eq.
    4).

        L = mean_{k in P+} log(1 + sum_{i:y_i=k} w+_i exp(-alpha (c_ik-delta)))
          + mean_k log(1 + sum_{i:y_i!=k} w-_i exp(alpha (c_ik+delta)))

    P+ are the classes in the batch; the second mean is over all classes.

    Weights: on 'term' as in the formula. On 'positive' (as published by LM-Metric), w+_i multiplies
    all exponentials of image i.
    """

    placements = ("term", "positive")

    alpha: Positive = 32.0
    delta: Finite = 0.1
    lr: NonNegative = 1e-2

    def first_proxies(self) -> nn.Parameter:
        """Normally distributed, as in the authors' code."""
        empty = torch.empty(self.n_classes, self.embed_dim)
        return nn.Parameter(nn.init.kaiming_normal_(empty, mode="fan_out"))

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) below n_classes -> scalar."""
        a_s = cosine(x, self.proxies, self.alpha)  # (B, C)
        a_d = self.alpha * self.delta
        own = label[:, None]  # (B, 1)
        is_own = torch.zeros_like(a_s, dtype=torch.bool).scatter(1, own, True)  # (B, C)
        # P+
        present = is_own.any(0)  # (C,)
        own_logit = -a_s.gather(1, own).squeeze(1)  # (B,)
        pull = grouped_logsumexp(own_logit, weight.positive, label, self.n_classes)  # (C,)
        w_negative = weight.positive if self.weight_on == "positive" else weight.negative
        push = weighted_logsumexp(a_s, w_negative, ~is_own, dim=0)  # (C,)
        pull = masked_mean(softplus(pull + a_d), present)
        return pull + softplus(push + a_d).mean()


def grouped_logsumexp(logit: Tensor, weight: Tensor | None, group: Tensor, groups: int) -> Tensor:
    """log sum w exp(logit) over the entries (B,) of each group, (G,); weight (B, 1).

    Over no entries, or none of weight, it is a huge negative number with zero gradient.
    """
    if weight is not None:
        weight = weight[:, 0].to(logit.dtype)  # (B,)
        logit = logit.masked_fill(weight <= 0, -torch.inf)
    most = logit.new_full((groups,), -torch.inf)
    most = most.scatter_reduce(0, group, logit.detach(), "amax")  # (G,)
    most = most.clamp(min=lowest(logit))
    share = (logit - most[group]).exp()  # (B,)
    if weight is not None:
        share = weight * share
    total = torch.zeros_like(most).index_add(0, group, share)  # (G,)
    some = total > 0
    log_sum = torch.where(some, total, 1).log() + most
    return torch.where(some, log_sum, lowest(logit))
