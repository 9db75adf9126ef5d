"""Smooth-AP: average precision with sigmoids for steps."""
from torch import Tensor

from criteria.base import Criterion, masked_weights, pair_masks
from criteria.ranking import mean_over_queries, ranked, sigmoids, standing_above
from utilities.pairwise import identity, similarity


class SmoothAP(Criterion):
    """Smooth-AP (Brown et al., "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval", ECCV 2020, eq. 8).

        L = mean_q [ 1 - 1/|P_q| sum_{i in P_q} (1 + sum_{j in P_q, j != i} w_qj G_ij) / (1 + sum_{j != i} w_qj G_ij) ]
        G_ij = sigmoid((s_qj - s_qi) / tau),   s = x x^T

    The query itself is a retrieved item and a positive, as in the authors' code; with exclude_self it is neither, and
    the mean runs over the queries that have a positive. No deviation.

    Weights: w_qj multiplies the sigmoid of the ranked item j: w+ for positives of q, w- for negatives, one for q.
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, tau: float = 0.01, exclude_self: bool = False):
        super().__init__()
        self.tau, self.exclude_self = tau, exclude_self

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x) / self.tau  # (A, N)
        positive, negative = pair_masks(label, anchors)
        w_positive = masked_weights(weight[0], positive, x.dtype)  # (A, N)
        w_negative = masked_weights(weight[1], negative, x.dtype)  # (A, N)
        if not self.exclude_self:
            itself = identity(label, anchors)  # (A, N)
            positive, w_positive = positive | itself, w_positive + itself
        item, real = ranked(positive)  # (A, P) each
        above = standing_above(sigmoids, item, s, w_positive, w_negative)  # (A, P, 2) positives, negatives
        return mean_over_queries(above[..., 1] / (1 + above.sum(-1)), real)        # of one minus precision
