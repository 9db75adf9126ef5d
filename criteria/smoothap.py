"""Smooth-AP: average precision with sigmoids for steps."""


from criteria.base import PairCriterion, masked_weights
from criteria.ranking import mean_over_queries, sigmoids, standing_above
from utilities.pairwise import identity, pair_masks, similarity
from utilities.ranges import Positive


class SmoothAP(PairCriterion):
    """Smooth-AP (Brown et al., "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval",
    ECCV 2020, eq. 8).

        L = mean_q [ 1 - 1/|P_q| sum_{i in P_q} (1 + sum_{j in P_q, j != i} w_qj G_ij)
                                                / (1 + sum_{j != i} w_qj G_ij) ]
        G_ij = sigmoid((s_qj - s_qi) / tau),   s = x x^T

    The query itself is a retrieved item and a positive, as in the authors' code; with exclude_self
    it is neither, and the mean runs over the queries that have a positive. No deviation.

    Weights: w_qj multiplies the sigmoid of the ranked item j: w+ for positives of q, w- for
    negatives, one for q.
    """

    tau: Positive = 0.01
    exclude_self: bool = False

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x) / self.tau  # (A, N)
        positive, _ = masks = pair_masks(label, anchors)  # (A, N) each
        w_positive, w_negative = masked_weights(weight, masks, x.dtype)  # (A, N) each
        if not self.exclude_self:
            itself = identity(label, anchors)  # (A, N)
            positive = positive | itself
            w_positive = w_positive + itself
        above, real = standing_above(sigmoids, s, positive, w_positive, w_negative)
        negatives_above = above[..., 1]  # (A, P)
        imprecision = negatives_above / (1 + above.sum(-1))  # (A, P)
        return mean_over_queries(imprecision, real)
