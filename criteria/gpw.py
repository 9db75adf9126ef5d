"""The plain pair loss: its gradient with respect to a similarity is the pair's weight itself."""
from torch import Tensor

from criteria.base import Criterion, masked_weights, pair_masks
from utilities.pairwise import similarity


class GPW(Criterion):
    """General pair weighting with weights from outside (Wang et al., "Multi-Similarity Loss with General Pair
    Weighting for Deep Metric Learning", CVPR 2019, eq. 5).

        L = mean_i [ 1/|N_i| sum_{n in N_i} w-_in s_in - 1/|P_i| sum_{p in P_i} w+_ip s_ip ],   s = x x^T

    over the anchors i that have a positive and a negative. Deviation: the paper derives the weights from a loss; here
    they are given.

    Weights: w+ scales the similarity of a positive pair, w- that of a negative one; with w of mean one per row, w /
    |row| are the weights that sum to one, without weights both are uniform.
    """

    accepts_weight = "pair"
    takes_references = True

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar; no anchor with both signs: zero."""
        s, masks = similarity(x[:anchors], x), pair_masks(label, anchors)  # (A, N) each
        pull, push = ((s * masked_weights(w, mask, x.dtype)).sum(-1) / mask.sum(-1).clamp(min=1)
                      for w, mask in zip(weight, masks))  # (A,) each
        anchor = masks[0].any(-1) & masks[1].any(-1)  # (A,) those with both signs
        return ((push - pull) * anchor).sum() / anchor.sum().clamp(min=1)
