"""The plain pair loss: its gradient with respect to a similarity is the pair's weight itself."""
from criteria.base import PairCriterion
from utilities.pairwise import masked_mean, masked_weights, pair_masks, similarity


class GPW(PairCriterion):
    """General pair weighting with weights from outside (Wang et al., "Multi-Similarity Loss with
    General Pair Weighting for Deep Metric Learning", CVPR 2019, eq. 5).

        L = mean_i [1/|N_i| sum_{N_i} w-_in s_in - 1/|P_i| sum_{P_i} w+_ip s_ip]

    The mean runs over the anchors that have a positive and a negative. Deviation: the paper derives
    the weights from a loss.

    Weights: as in the formula.
    """

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar; no anchor with both signs: zero."""
        s = similarity(x[:anchors], x)  # (A, N)
        positive, negative = masks = pair_masks(label, anchors)  # (A, N) each
        w_positive, w_negative = masked_weights(weight, masks, x.dtype)  # (A, N) each
        pull = masked_mean(s * w_positive, positive, -1)  # (A,)
        push = masked_mean(s * w_negative, negative, -1)  # (A,)
        both_signs = positive.any(-1) & negative.any(-1)  # (A,)
        return masked_mean(push - pull, both_signs)
