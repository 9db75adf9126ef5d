"""Histogram loss: the chance that a negative pair is more similar than a positive one."""
import torch
from torch import Tensor

from criteria.base import PairCriterion
from utilities.errors import UsageError
from utilities.pairwise import masked_weights, pair_masks, similarity
from utilities.ranges import Width


class Histogram(PairCriterion):
    """Histogram loss (Ustinova and Lempitsky, "Learning Deep Embeddings with Histogram Loss",
    NeurIPS 2016, eq. 1 to 4):

        L = sum_r h-_r sum_{q<=r} h+_q
        h_r = sum_ij w_ij max(0, 1 - |s_ij - t_r| / D) / sum_ij w_ij
        t_r = -1 + r D,   D = 2 / (nbins-1)

    h+ is over pairs of one class, h- over all others. Similarities beyond [-1, 1] by D count
    nowhere. Deviation: pairs within the batch count twice, those with past batches once. On a GPU the
    last bits vary between calls.

    Weights: w+ and w- are a pair's share in its histogram; within the batch a pair has the mean of
    its two weights.
    """

    nbins: Width = 65

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nbins < 2:
            raise UsageError(f"--loss_histogram_nbins {self.nbins}: "
                             "similarities from -1 to 1 need at least 2 nodes.")

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x)  # (A, N)
        positive, negative = masks = pair_masks(label, anchors)  # (A, N) each
        w_positive, w_negative = masked_weights(weight, masks, x.dtype)  # (A, N) each
        total = torch.stack([w_positive.sum(), w_negative.sum()])  # (2,)
        sums = self.sums(s, w_positive + w_negative, negative)  # (2, R)
        total = torch.where(total > 0, total, 1)
        h_positive, h_negative = sums / total[:, None]  # (R,) each
        return (h_negative * h_positive.cumsum(-1)).sum()

    def sums(self, s: Tensor, weight: Tensor, second: Tensor) -> Tensor:
        """The weighted sums of two histograms, (2, R); where `second` (A, N) holds, the second's.

        An entry of s (A, N) lies at most half a node from its nearest node r, off by o = (s - t_r)
        / D, and gives r - 1, r and r + 1 the shares relu(-o), 1 - |o| and relu(o). With relu(o) =
        (|o| + o) / 2 the slope at a node, where the kernel has a kink, is the mean of both sides.
        Two spare nodes at either end take what lies outside.
        """
        nodes_per_unit = (self.nbins - 1) / 2
        node = (s + 1) * nodes_per_unit  # (A, N)
        node = node.clamp(-1, self.nbins)
        # NaN lies at no node
        nearest = node.detach().round().nan_to_num()  # (A, N)
        offset = node - nearest
        size = offset.abs()
        below = (size - offset) / 2
        above = (size + offset) / 2
        share = torch.stack([below, 1 - size, above]) * weight  # (3, A, N)
        nodes = self.nbins + 4
        neighbour = torch.arange(1, 4, device=s.device)[:, None, None]
        index = nearest.long() + second * nodes + neighbour  # (3, A, N)
        flat = s.new_zeros(2 * nodes)  # (2 (R + 4),)
        flat = flat.index_add(0, index.flatten(), share.flatten())
        return flat.view(2, nodes)[:, 2:-2]  # (2, R)
