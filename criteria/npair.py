"""N-pair loss: every given pair against all negatives of its anchor."""
import torch
from torch import Tensor
from torch.nn.functional import softplus

from criteria.base import TripletCriterion, mean_over, weight_of
from criteria.lifted import mean_length
from utilities.pairwise import similarity, weighted_logsumexp
from utilities.ranges import NonNegative


class NPair(TripletCriterion):
    """N-pair loss (Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective",
    NeurIPS 2016), in the form of the base framework:

        L = mean_(a,p) w+_ap log(1 + sum_n w-_an exp(s_an-s_ap)) + l2 mean_i |x_i|

    The mean runs over the given pairs (a, p), n over all images of other classes.
    With multiclass, n runs over the positives of the other classes' given pairs, as in the paper.
    Deviations: the norm is not squared; without triplets there is no norm term.

    Weights: as in the formula.
    """

    l2: NonNegative = 0.005
    multiclass: bool = False

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,), T triplets -> scalar."""
        anchor, positive, _ = triplets[:3]
        # The sum over n depends on the anchor alone: R = min(T, A) rows.
        batch = torch.arange(len(x[:anchors]), device=x.device)  # (A,)
        row = batch  # (R,)
        place = anchor  # (T,)
        if len(anchor) < len(batch):
            row = anchor
            place = torch.arange(len(anchor), device=x.device)
        s = similarity(x[row], x)  # (R, N)
        w_negative = self.negative_weight(weight.negative, positive, x)  # (1 or A, 1 or N) or None
        if w_negative is not None:
            w_negative = w_negative.expand(len(batch), -1)[row]  # (R, 1 or N)
        log_sum = weighted_logsumexp(s, w_negative, label[row, None] != label)  # (R,)
        term = softplus(log_sum[place] - s[place, positive])  # (T,)
        is_positive = label[anchor] == label[positive]  # (T,)
        loss = mean_over(term, weight_of(weight.positive, anchor, positive, is_positive))
        if len(anchor) == 0:
            return loss
        return loss + self.l2 * mean_length(x[:anchors])

    def negative_weight(self, weight: Tensor | None, positive: Tensor, x: Tensor) -> Tensor | None:
        """w-, times how often a row is the positive of a pair where `multiclass` asks for it."""
        if not self.multiclass:
            return weight
        ones = x.new_ones(len(positive))  # (T,)
        times = x.new_zeros(len(x)).index_add(0, positive, ones)  # (N,)
        return times[None] if weight is None else times * weight
