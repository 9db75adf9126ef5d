"""Lifted structure loss, generalised: all positives and all negatives of an anchor."""
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import PairCriterion
from utilities.pairwise import distance, masked_mean, pair_masks, root, weighted_logsumexp
from utilities.ranges import Finite, NonNegative


class Lifted(PairCriterion):
    """Generalised lifted structure loss (Hermans et al., "In Defense of the Triplet Loss for Person
    Re-Identification", arXiv 2017, eq. 8):

        L = mean_a relu(log sum_{P_a} w+_ap exp(d_ap) + log sum_{N_a} w-_an exp(neg_margin-d_an))
          + l2 mean_i |x_i|

    The first mean runs over the anchors that have a positive; one without negatives adds zero.
    Deviations: the paper sums over anchors. The term of the norms is the base framework's and
    runs over the batch alone.

    Weights: as in the formula.
    """

    neg_margin: Finite = 1.0
    l2: NonNegative = 0.005

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        d = distance(x, anchors)  # (A, N)
        positive, negative = pair_masks(label, anchors)  # (A, N) each
        pull = weighted_logsumexp(d, weight.positive, positive)  # (A,)
        push = weighted_logsumexp(self.neg_margin - d, weight.negative, negative)  # (A,)
        # zero where one of them is over no pairs
        hinge = masked_mean(relu(pull + push), positive.any(-1))
        return hinge + self.l2 * mean_length(x[:anchors])


def mean_length(x: Tensor) -> Tensor:
    """The mean length of the rows."""
    return root(x.square().sum(-1)).mean()
