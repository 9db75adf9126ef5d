"""Triplet loss with a margin, or with a soft one."""
from torch import Tensor
from torch.nn.functional import relu, softplus

from criteria.base import Criterion, mean_over, weight_of
from utilities.errors import UsageError
from utilities.pairwise import distance_between, squared_distance_between


class Triplet(Criterion):
    """Triplet loss (Schroff et al., "FaceNet", CVPR 2015, eq. 3):

        L = mean_t w+_ap w-_an relu(d_ap^2 - d_an^2 + m)

    over all triplets, zeros included; with avg_nonzero over the hinges > 0, counted without the weights. euclidean
    compares d in the place of d^2. soft_margin: log(1 + exp(d_ap^2 - d_an^2)) in the place of the hinge, without margin
    (Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, section 2). Deviations:
    FaceNet sums over triplets; Hermans 2017 puts the soft margin on d (euclidean).

    Weights: w+ w- scales a triplet's term.
    """

    needs_triplets = True
    takes_references = True
    accepts_weight = "pair"

    def __init__(self, margin: float = 0.2, euclidean: bool = False, avg_nonzero: bool = False,
                 soft_margin: bool = False):
        super().__init__()
        if soft_margin and (margin, avg_nonzero) != (0.2, False):
            raise UsageError("--loss_triplet_soft_margin has no margin and leaves no term at zero: drop "
                             "--loss_triplet_margin and --loss_triplet_avg_nonzero.")
        self.margin, self.avg_nonzero, self.soft_margin = margin, avg_nonzero, soft_margin
        self.between = distance_between if euclidean else squared_distance_between

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), T triplets -> scalar."""
        anchor, *others = triplets
        d_ap, d_an = (self.between(x, anchor, other) for other in others)  # (T,) each
        term = softplus(d_ap - d_an) if self.soft_margin else relu(d_ap - d_an + self.margin)  # (T,)
        weights = (weight_of(w, anchor, other) for w, other in zip(weight, others))
        return mean_over(term, *weights, nonzero=self.avg_nonzero)
