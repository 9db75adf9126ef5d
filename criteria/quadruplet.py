"""Quadruplet loss: positive pairs also nearer than two images of two other classes."""
from torch.nn.functional import relu

from criteria.base import TripletCriterion, mean_over, triplet_weights
from utilities.pairwise import distance_between, squared_distance_between
from utilities.ranges import NonNegative


class Quadruplet(TripletCriterion):
    """Quadruplet loss (Chen et al., "Beyond Triplet Loss: A Deep Quadruplet Network for Person
    Re-identification", CVPR 2017), over quadruplets whose anchor a, negative n and second negative
    n2 are of three different classes:

        L = mean_t w+_ap w-_an relu(d_ap - d_an + margin_alpha_1)
          + mean_t w+_ap w-_an relu(d_ap - d_{n,n2} + margin_alpha_2)

    With squared, d^2 takes the place of d. Deviation: d and the margins as in the base framework;
    the paper squares d.

    Weights: as in the formula.
    """

    margin_alpha_1: NonNegative = 0.2
    margin_alpha_2: NonNegative = 0.2
    squared: bool = False

    needs_quadruplets = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.between = squared_distance_between if self.squared else distance_between

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), T quadruplets -> scalar."""
        anchor, positive, negative, second = triplets
        weights = triplet_weights(weight, triplets, label)  # (T,) each
        d_ap = self.between(x, anchor, positive)  # (T,)
        d_an = self.between(x, anchor, negative)  # (T,)
        d_nn = self.between(x, negative, second)  # (T,)
        own = mean_over(relu(d_ap - d_an + self.margin_alpha_1), *weights)
        others = mean_over(relu(d_ap - d_nn + self.margin_alpha_2), *weights)
        return own + others
