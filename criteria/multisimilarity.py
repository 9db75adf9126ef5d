"""Multi-similarity loss with its own pair mining."""
from torch import Tensor
from torch.nn.functional import softplus

from batchminer.multisimilarity import hard_pairs
from criteria.base import PairCriterion
from utilities.pairwise import similarity, weighted_logsumexp
from utilities.ranges import Finite, Positive


class MultiSimilarity(PairCriterion):
    """Multi-similarity loss (Wang et al., CVPR 2019, eq. 10 to 12 and 15):

        L = mean_i l_i   over the whole batch
        l_i = 1/a log(1 + sum_{P_i} w+_ip exp(-a (s_ip-thresh)))
            + 1/b log(1 + sum_{N_i} w-_in exp(b (s_in-thresh)))
        P_i = {p: s_ip - margin < max_n s_in},   N_i = {n: s_in + margin > min_p s_ip}

    a = pos_weight, b = neg_weight. An anchor with no mined pair adds zero. Mining carries no
    gradient and does not see the weights. Deviation: b = 40 as in the base framework; the paper has
    50.

    Weights: as in the formula.
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
