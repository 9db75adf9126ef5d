"""Lifted structure loss, generalised: all positives and all negatives of an anchor through log-sum-exps."""
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import Criterion, pair_masks, weighted_logsumexp
from utilities.pairwise import distance, root


class Lifted(Criterion):
    """Generalised lifted structure loss (Hermans et al., "In Defense of the Triplet Loss for Person
    Re-Identification", arXiv 2017, eq. 8), d Euclidean:

        L = mean_a relu(log sum_{P_a} w+_ap exp(d_ap) + log sum_{N_a} w-_an exp(m - d_an)) + l2 mean_i |x_i|

    over the anchors a that have a positive, m = neg_margin; an anchor without negatives adds zero. x is used as given.
    Deviations: the paper sums over anchors and has no term of the norms, which is the base framework's (l2 of 0 drops
    it) and leaves references out.

    Weights: w+ and w- multiply the exponentials of positive and negative pairs (log-weights inside the log-sum-exp);
    the norms are not weighted.
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, neg_margin: float = 1.0, l2: float = 0.005):
        super().__init__()
        self.neg_margin, self.l2 = neg_margin, l2

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar."""
        d, (positive, negative) = distance(x, anchors), pair_masks(label, anchors)  # (A, N) each
        pull = weighted_logsumexp(d, weight[0], positive)  # (A,)
        push = weighted_logsumexp(self.neg_margin - d, weight[1], negative)  # (A,)
        hinge = relu(pull + push).sum() / positive.any(-1).sum().clamp(min=1)      # zero where one of them is empty
        return hinge + self.l2 * root(x[:anchors].square().sum(-1)).mean()
