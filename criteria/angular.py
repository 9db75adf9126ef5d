"""Angular loss: the angle at the negative of a triangle, beside the N-pair loss."""
import math

from torch import Tensor
from torch.nn.functional import softplus

from criteria.base import TripletCriterion, mean_over, weight_of
from criteria.npair import NPair
from utilities.pairwise import negative_mask, unit, weighted_logsumexp
from utilities.ranges import Degrees, NonNegative


class Angular(TripletCriterion):
    """Angular loss beside the N-pair loss (Wang et al., "Deep Metric Learning with Angular Loss",
    ICCV 2017):

        L = NP + npair_ang_weight ANG + npair_l2 mean_i |x_i|
        ANG = mean_(a,p) w+_ap
              log(1 + sum_n w-_an exp(4 t^2 (u_a+u_p) . u_n - 2 (1+t^2) u_a . u_p))

    t = tan(alpha), alpha in degrees, u = x / |x|. NP is the N-pair loss of x, without its norm
    term. Both terms run over the given pairs (a, p), and n over all images of other classes. With
    angular_only, L = ANG. Deviation: the paper has one negative of each class.

    Weights: as in the formula.
    """

    alpha: Degrees = 45.0
    npair_ang_weight: NonNegative = 2.0
    npair_l2: NonNegative = 0.005
    angular_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.npair = NPair(self.npair_l2)

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,), T triplets -> scalar."""
        angular = self.angular(unit(x), label, triplets, weight, anchors)
        if self.angular_only:
            return angular
        npair = self.npair.loss(x, label, triplets, weight, anchors)
        return npair + self.npair_ang_weight * angular

    def angular(self, u: Tensor, label: Tensor, triplets, weight, anchors: int | None) -> Tensor:
        """ANG of unit rows u (N, D) -> scalar."""
        anchor, positive, _ = triplets[:3]
        square_tan = math.tan(math.radians(self.alpha)) ** 2
        u_a = u[anchor]  # (T, D)
        u_p = u[positive]  # (T, D)
        w_negative = weight.negative
        if w_negative is not None:
            w_negative = w_negative[anchor]  # (T, 1 or N)
        is_negative = negative_mask(label, anchors)[anchor]  # (T, N)
        exponent = 4 * square_tan * (u_a + u_p) @ u.T  # (T, N)
        log_sum = weighted_logsumexp(exponent, w_negative, is_negative)  # (T,)
        own = 2 * (1 + square_tan) * (u_a * u_p).sum(-1)  # (T,)
        is_positive = label[anchor] == label[positive]  # (T,)
        w_positive = weight_of(weight.positive, anchor, positive, is_positive)
        return mean_over(softplus(log_sum - own), w_positive)
