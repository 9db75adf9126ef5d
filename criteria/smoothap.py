"""Smooth-AP: average precision with sigmoids for steps."""
from torch import Tensor

from criteria.base import PairCriterion, PairWeights
from criteria.ranking import mean_over_queries, sigmoids, standing_above
from utilities.pairwise import identity, listed, masked_weights, pair_masks, similarity
from utilities.ranges import Positive


class SmoothAP(PairCriterion):
    """Smooth-AP (Brown et al., "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval",
    ECCV 2020, eq. 8).

        L = mean_q [1 - 1/|P_q| sum_{i in P_q} (1 + sum_{j in P_q,j!=i} w_qj G_ij)
                                             / (1 + sum_{j!=i} w_qj G_ij)]
        G_ij = sigmoid((s_qj-s_qi) / tau)

    The query itself is a retrieved item and a positive, as in the authors' code. With exclude_self
    it is neither, and the mean runs over the queries that have a positive.

    Weights: on 'term', w_qj is w+ for positives of q, w- for negatives, one for q. On 'rank' (as
    published by LM-Metric), w+_i of the ranked positive i multiplies its whole count, w- is not
    used, and the AP can exceed one: `(1 + sum_P G_ij) / (1 + w+_i sum G_ij)`.
    """

    placements = ("term", "rank")
    of_images = ("rank",)

    tau: Positive = 0.01
    exclude_self: bool = False

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x) / self.tau  # (A, N)
        positive, _ = masks = pair_masks(label, anchors)  # (A, N) each
        if not self.exclude_self:
            itself = identity(label, anchors)  # (A, N)
            positive = positive | itself
        item, real = listed(positive)  # (A, P) each
        counted = PairWeights() if self.weight_on == "rank" else weight
        w_positive, w_negative = masked_weights(counted, masks, x.dtype)  # (A, N) each
        if not self.exclude_self:
            w_positive = w_positive + itself
        above = standing_above(sigmoids, s, item, w_positive, w_negative)  # (A, P, 2)
        if self.weight_on == "rank":
            imprecision = weighted_by_rank(above, item, weight.positive)  # (A, P)
        else:
            imprecision = above[..., 1] / (1 + above.sum(-1))  # (A, P)
        return mean_over_queries(imprecision, real)


def weighted_by_rank(above: Tensor, item: Tensor, weight: Tensor | None) -> Tensor:
    """1 - (1 + positives above) / (1 + w_i all above) of the ranked items, (A, P).

    above (A, P, 2), item (A, P), weight (A, 1) of each image or None.
    """
    w = 1.0 if weight is None else weight[:, 0][item]  # (A, P)
    return 1 - (1 + above[..., 0]) / (1 + w * above.sum(-1))
