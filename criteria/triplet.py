"""Triplet loss with a margin, or with a soft one."""
from torch.nn.functional import relu, softplus

from criteria.base import TripletCriterion, mean_over, triplet_weights
from utilities.errors import UsageError
from utilities.pairwise import distance_between, squared_distance_between
from utilities.ranges import NonNegative


class Triplet(TripletCriterion):
    """Triplet loss (Schroff et al., "FaceNet", CVPR 2015, eq. 3):

        L = mean_t w+_ap w-_an relu(d_ap^2 - d_an^2 + margin)

    With avg_nonzero the mean runs over the hinges > 0, counted without the weights. With euclidean,
    d takes the place of d^2. With soft_margin, `log(1 + exp(d_ap^2 - d_an^2))` takes the place of
    the hinge (Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017,
    section 2). Deviations: the paper sums over triplets; Hermans et al. put the soft
    margin on d (euclidean).

    Weights: as in the formula.
    """

    margin: NonNegative = 0.2
    euclidean: bool = False
    avg_nonzero: bool = False
    soft_margin: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.soft_margin and (self.avg_nonzero or self.margin != 0.2):
            raise UsageError("--loss_triplet_soft_margin has no margin and leaves no term at zero: "
                             "drop --loss_triplet_margin and --loss_triplet_avg_nonzero.")
        self.between = distance_between if self.euclidean else squared_distance_between

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), T triplets -> scalar."""
        d_ap = self.between(x, triplets.anchor, triplets.positive)  # (T,)
        d_an = self.between(x, triplets.anchor, triplets.negative)  # (T,)
        gap = d_ap - d_an
        term = softplus(gap) if self.soft_margin else relu(gap + self.margin)  # (T,)
        return mean_over(term, *triplet_weights(weight, triplets, label), nonzero=self.avg_nonzero)
