"""Histogram loss: the chance that a negative pair is more similar than a positive one."""
import torch
from torch import Tensor

from criteria.base import Criterion, masked_weights, pair_masks
from utilities.errors import UsageError
from utilities.pairwise import similarity


class Histogram(Criterion):
    """Histogram loss (Ustinova and Lempitsky, "Learning Deep Embeddings with Histogram Loss", NeurIPS 2016, eq. 1 to
    4), s = x x^T:

        h_r = sum_ij w_ij max(0, 1 - |s_ij - t_r| / D) / sum_ij w_ij,   t_r = -1 + r D,   D = 2 / (R - 1)
        L = sum_r h-_r sum_{q <= r} h+_q

    for R = nbins; h+ over the pairs of one class, h- over all others, zero where there are none. x is used as given: on
    unit rows s is a cosine; what is beyond [-1, 1] by D counts nowhere. Deviations: pairs are ordered, i an anchor, j
    any other row, so that i < j comes twice, which cancels; with references, pairs within the batch count twice and
    those with a reference once. On a GPU the sums into nodes have no fixed order, so the last bits vary.

    Weights: w+ and w- are a pair's share in its histogram, so that only their ratios matter; within the batch a pair
    has the mean of its two weights.
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, nbins: int = 65):
        super().__init__()
        if nbins < 2:
            raise UsageError(f"--loss_histogram_nbins {nbins}: similarities from -1 to 1 need at least 2 nodes.")
        self.nbins = nbins

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar."""
        masks = pair_masks(label, anchors)
        weights = [masked_weights(w, mask, x.dtype) for w, mask in zip(weight, masks)]  # (A, N) each
        total = torch.stack([w.sum() for w in weights])  # (2,)
        h = self.sums(similarity(x[:anchors], x), sum(weights), masks[1])  # (2, R)
        positive, negative = h / torch.where(total > 0, total, 1)[:, None]  # (R,) each
        return (negative * positive.cumsum(-1)).sum()

    def sums(self, s: Tensor, weight: Tensor, second: Tensor) -> Tensor:
        """The weighted sums of two histograms, (2, R); the entries of s (A, N) where `second` holds are the second's.

        An entry lies at most half a node from its nearest node r, off by o = (s - t_r) / D, and gives r - 1, r and
        r + 1 the shares relu(-o), 1 - |o| and relu(o). With relu(o) = (|o| + o) / 2 the slope at a node, where the
        kernel has a kink, is the mean of both sides. Two spare nodes at either end take what lies outside.
        """
        node = ((s + 1) * ((self.nbins - 1) / 2)).clamp(-1, self.nbins)  # (A, N)
        nearest = node.detach().round().nan_to_num()                               # no number lies at no node
        offset = node - nearest
        size = offset.abs()
        share = torch.stack([(size - offset) / 2, 1 - size, (size + offset) / 2])  # (3, A, N)
        spare = self.nbins + 4
        index = nearest.long() + second * spare + torch.arange(1, 4, device=s.device)[:, None, None]  # (3, A, N)
        flat = s.new_zeros(2 * spare).index_add(0, index.flatten(), (share * weight).flatten())  # (2 (R + 4),)
        return flat.view(2, spare)[:, 2:-2]  # (2, R)
