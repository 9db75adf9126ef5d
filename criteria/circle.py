"""Circle loss: every pair pulled or pushed by as much as it is away from where it should be."""
from torch.nn.functional import relu, softplus

from criteria.base import PairCriterion
from utilities.pairwise import masked_mean, pair_masks, similarity, weighted_logsumexp
from utilities.ranges import Finite, Positive


class Circle(PairCriterion):
    """Circle loss (Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity
    Optimization", CVPR 2020, eq. 4 to 6 with the margins of section 3.3):

        L = mean_i l_i   over the anchors i that have a positive and a negative
        l_i = log(1 + sum_{P_i} w+_ip exp(-gamma a_ip (s_ip - 1 + m))
                      sum_{N_i} w-_in exp(gamma a_in (s_in-m)))
        a_ip = relu(1 + m - s_ip),   a_in = relu(s_in+m),   m = margin

    The factors a carry no gradient, so the gradient is not the derivative of the value. The
    defaults are the paper's for fine-grained retrieval. Deviation: the paper has one anchor.

    Weights: as in the formula.
    """

    margin: Finite = 0.4
    gamma: Positive = 80.0

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x)  # (A, N)
        positive, negative = pair_masks(label, anchors)  # (A, N) each
        a_p = relu(1 + self.margin - s.detach())  # (A, N)
        a_n = relu(s.detach() + self.margin)  # (A, N)
        positive_logit = -self.gamma * a_p * (s - 1 + self.margin)  # (A, N)
        negative_logit = self.gamma * a_n * (s - self.margin)  # (A, N)
        pull = weighted_logsumexp(positive_logit, weight.positive, positive)  # (A,)
        push = weighted_logsumexp(negative_logit, weight.negative, negative)  # (A,)
        # zero where one of them is over no pairs
        return masked_mean(softplus(pull + push), positive.any(-1))
