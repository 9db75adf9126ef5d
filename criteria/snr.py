"""Triplet loss on signal-to-noise ratios."""
import torch
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import TripletCriterion, mean_over, triplet_weights
from utilities.ranges import NonNegative


class SNR(TripletCriterion):
    """SNR triplet loss (Yuan et al., "Signal-to-Noise Ratio: A Robust Distance Metric for Deep
    Metric Learning", CVPR 2019), v the variance over the D features of a row:

        L = mean_active w+_ap w-_an relu((v(x_a-x_p) - v(x_a-x_n)) / v(x_a) + margin)
          + reg_lambda mean_t |sum_d x_ad|

    Active are the hinges > 0, counted without the weights. Deviations: both means are those of the
    base framework, which drops the regulariser with the distance miner; here it stays.

    Weights: as in the formula.
    """

    margin: NonNegative = 0.2
    reg_lambda: NonNegative = 0.005

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), T triplets -> scalar."""
        anchor, positive, negative = triplets[:3]
        signal = variance(x[anchor])  # (T,)
        v_ap = variance(x[anchor] - x[positive])  # (T,)
        v_an = variance(x[anchor] - x[negative])  # (T,)
        has_signal = signal > 0  # (T,)
        ratio = (v_ap - v_an) / torch.where(has_signal, signal, 1)  # (T,)
        hinge = relu(ratio + self.margin) * has_signal  # (T,)
        loss = mean_over(hinge, *triplet_weights(weight, triplets, label), nonzero=True)
        regulariser = mean_over(x[anchor].sum(-1).abs())
        return loss + self.reg_lambda * regulariser


def variance(row: Tensor) -> Tensor:
    """Variance over the features of each row; zero, not undefined, with one feature."""
    centred = row - row.mean(-1, keepdim=True)  # (T, D)
    return centred.square().mean(-1)  # (T,)
