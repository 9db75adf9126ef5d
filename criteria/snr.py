"""Triplet loss on signal-to-noise ratios."""
import torch
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import Criterion, mean_over, weight_of


class SNR(Criterion):
    """SNR triplet loss (Yuan et al., "Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning", CVPR
    2019), v the variance over the D features of a row:

        L = mean_active w+_ap w-_an relu((v(x_a - x_p) - v(x_a - x_n)) / v(x_a) + m) + reg_lambda mean_t |sum_d x_ad|

    active: hinges > 0, counted without the weights; none: that mean is 0. The regulariser's mean runs over all T
    anchors, with repetition. An anchor of no variance has no ratio and is never active. Deviations: the mean over
    active triplets and the regulariser over anchors, as in the base framework, which drops the regulariser with the
    distance miner; here it stays.

    Weights: w+ w- scales a triplet's hinge, not the regulariser.
    """

    needs_triplets = True
    takes_references = True
    accepts_weight = "pair"

    def __init__(self, margin: float = 0.2, reg_lambda: float = 0.005):
        super().__init__()
        self.margin, self.reg_lambda = margin, reg_lambda

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), T triplets -> scalar."""
        anchor, *others = triplets
        signal = variance(x[anchor])  # (T,)
        near, far = (variance(x[anchor] - x[other]) for other in others)  # (T,) each
        has_signal = signal > 0  # (T,)
        hinge = relu((near - far) / torch.where(has_signal, signal, 1) + self.margin) * has_signal  # (T,)
        weights = (weight_of(w, anchor, other) for w, other in zip(weight, others))
        return mean_over(hinge, *weights, nonzero=True) + self.reg_lambda * mean_over(x[anchor].sum(-1).abs())


def variance(row: Tensor) -> Tensor:
    """Variance over the features of each row; zero, not undefined, with one feature."""
    return (row - row.mean(-1, keepdim=True)).square().mean(-1)  # (T,)
