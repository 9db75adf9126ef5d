"""Quadruplet loss: positive pairs also nearer than two images of two other classes."""
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import Criterion, mean_over, weight_of
from utilities.pairwise import distance_between, squared_distance_between


class Quadruplet(Criterion):
    """Quadruplet loss (Chen et al., "Beyond Triplet Loss: A Deep Quadruplet Network for Person Re-identification", CVPR
    2017), over quadruplets whose anchor a, negative n and second negative n2 are of three different classes:

        L = mean_t w+_ap w-_an relu(d_ap - d_an + m_1) + mean_t w+_ap w-_an relu(d_ap - d_{n,n2} + m_2)

    over all T, zeros included; m_1 = margin_alpha_1, m_2 = margin_alpha_2. squared: d^2 in the place of d. Deviation:
    d and the margins as in the base framework; the paper squares d.

    Weights: w+ w- scales both terms: the rows of the weights are anchors, which n need not be (it may be a reference),
    so that the pair (n, n2) has the weight of (a, n).
    """

    needs_triplets = True
    needs_quadruplets = True
    takes_references = True
    accepts_weight = "pair"

    def __init__(self, margin_alpha_1: float = 0.2, margin_alpha_2: float = 0.2, squared: bool = False):
        super().__init__()
        self.margin_alpha_1, self.margin_alpha_2 = margin_alpha_1, margin_alpha_2
        self.between = squared_distance_between if squared else distance_between

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), T quadruplets -> scalar."""
        anchor, positive, negative, second = triplets
        weights = weight_of(weight[0], anchor, positive), weight_of(weight[1], anchor, negative)
        near = self.between(x, anchor, positive)  # (T,)
        own = relu(near - self.between(x, anchor, negative) + self.margin_alpha_1)  # (T,)
        others = relu(near - self.between(x, negative, second) + self.margin_alpha_2)  # (T,)
        return mean_over(own, *weights) + mean_over(others, *weights)
