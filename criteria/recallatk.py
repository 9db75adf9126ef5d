"""Recall@k surrogate: the share of positives among the first k, with sigmoids for both steps."""
import torch
from torch import Tensor

from criteria.base import Criterion, masked_weights, pair_masks
from criteria.ranking import mean_over_queries, ranked, sigmoids, standing_above
from utilities.pairwise import similarity


class RecallAtK(Criterion):
    """Recall@k surrogate (Patel et al., "Recall@k Surrogate Loss with Large Batches and Similarity Mixup", CVPR 2022).

        L = 1 - mean_k mean_q 1/|P_q| sum_{i in P_q} sigmoid((k - 1 - sum_{j != i} w_qj G_ij) / tau1)
        G_ij = sigmoid((s_qj - s_qi) / tau2),   s = x x^T

    over the k in `ks` and the queries q that have a positive; the query is not an item of its own ranking, its other
    positives are. An item of rank k counts one half, so that for small tau2, then tau1, the surrogate tends to the mean
    of recall@(k-1) and recall@k. Formula and temperatures are the paper's, without its mixup; the authors' code has
    tau1 = k, divides by min(k, |P_q|) and caps the sum over P_q at k.

    Weights: w_qj multiplies the sigmoid G of the ranked item j: w+ for positives of q, w- for negatives.
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, ks: tuple[int, ...] = (1, 2, 4, 8, 16), tau1: float = 1.0, tau2: float = 0.01):
        super().__init__()
        self.tau1, self.tau2 = tau1, tau2
        self.register_buffer("ks", torch.tensor(ks, dtype=torch.float32), persistent=False)  # (K,)

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar; no query with a positive: zero."""
        s, masks = similarity(x[:anchors], x) / self.tau2, pair_masks(label, anchors)  # (A, N) each
        item, real = ranked(masks[0])  # (A, P) each
        weights = (masked_weights(w, mask, x.dtype) for w, mask in zip(weight, masks))  # (A, N) each
        rank = 1 + standing_above(sigmoids, item, s, *weights).sum(-1)  # (A, P)
        missed = ((rank[..., None] - self.ks) / self.tau1).sigmoid()  # (A, P, K)
        return mean_over_queries(missed.mean(-1), real)
