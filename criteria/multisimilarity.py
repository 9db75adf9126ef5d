"""Multi-similarity loss with its own pair mining."""
from torch import Tensor
from torch.nn.functional import softplus

from batchminer.multisimilarity import hard_pairs
from criteria.base import PairCriterion, weighted_logsumexp
from utilities.pairwise import similarity
from utilities.ranges import Finite, Positive


class MultiSimilarity(PairCriterion):
    """Multi-similarity loss (Wang et al., CVPR 2019, eq. 10 to 12 and 15), S = x x^T:

        P_i = {p: S_ip - eps < max_n S_in},   N_i = {n: S_in + eps > min_p S_ip}
        l_i = 1/a log(1 + sum_{P_i} w+_ip exp(-a (S_ip - lam)))
            + 1/b log(1 + sum_{N_i} w-_in exp(b (S_in - lam)))
        L = 1/B sum_i l_i   over the whole batch; an anchor with no mined pair adds zero

    a = pos_weight, b = neg_weight, eps = margin, lam = thresh. Deviation: b = 40 as in the base
    framework; the paper has 50.

    Weights: w+ and w- multiply the exponentials of positive and negative pairs (log-weights inside
    the log-sum-exp); mining carries no gradient and does not see them.
    """

    pos_weight: Positive = 2.0
    neg_weight: Positive = 40.0
    margin: Finite = 0.1
    thresh: Finite = 0.5

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x)  # (A, N)
        positive, negative = hard_pairs(s.detach(), label, anchors, self.margin)  # (A, N) each
        pull = self.term(-self.pos_weight, s, weight.positive, positive)  # (A,)
        push = self.term(self.neg_weight, s, weight.negative, negative)  # (A,)
        return (pull + push).mean()

    def term(self, scale: float, s: Tensor, weight: Tensor | None, mask: Tensor) -> Tensor:
        """The part of l_i (A,) of one sign, whose pairs the mask (A, N) holds."""
        exponent = weighted_logsumexp(scale * (s - self.thresh), weight, mask)  # (A,)
        return softplus(exponent) / abs(scale)  # (A,)
