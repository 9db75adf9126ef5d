"""Recall@k surrogate: the share of positives among the first k, with sigmoids for both steps."""
import torch

from criteria.base import PairCriterion
from criteria.ranking import mean_over_queries, sigmoids, standing_above
from utilities.pairwise import listed, masked_weights, pair_masks, similarity
from utilities.ranges import Positive, PositiveInt


class RecallAtK(PairCriterion):
    """Recall@k surrogate (Patel et al., "Recall@k Surrogate Loss with Large Batches and Similarity
    Mixup", CVPR 2022).

        L = 1 - mean_k mean_q 1/|P_q| sum_{i in P_q}
                sigmoid((k - 1 - sum_{j!=i} w_qj G_ij) / tau1)
        G_ij = sigmoid((s_qj-s_qi) / tau2)

    The means run over the k in `ks` and the queries q that have a positive; the query is not in its
    own ranking. For small temperatures the value tends to the mean of recall@(k-1) and recall@k.
    Deviations: no mixup. The authors' code counts the query (their k is k + 1 here), had tau1 = k
    until November 2024, divides by min(k, |P_q|) and caps the sum over P_q at k.

    Weights: w_qj is w+ for positives of q, w- for negatives.
    """

    ks: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16)
    tau1: Positive = 1.0
    tau2: Positive = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = torch.tensor(self.ks, dtype=torch.float32)  # (K,)
        self.register_buffer("lengths", lengths, persistent=False)

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar; no query with a positive: zero."""
        s = similarity(x[:anchors], x) / self.tau2  # (A, N)
        masks = pair_masks(label, anchors)  # (A, N) each
        weights = masked_weights(weight, masks, x.dtype)  # (A, N) each
        item, real = listed(masks[0])  # (A, P) each
        above = standing_above(sigmoids, s, item, *weights)  # (A, P, 2)
        rank = 1 + above.sum(-1)  # (A, P)
        late = rank[..., None] - self.lengths  # (A, P, K)
        missed = (late / self.tau1).sigmoid()  # (A, P, K)
        return mean_over_queries(missed.mean(-1), real)
