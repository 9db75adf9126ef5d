"""Contrastive loss on the pairs of given triplets."""
from torch.nn.functional import relu

from criteria.base import TripletCriterion, mean_over, triplet_weights
from utilities.pairwise import distance_between
from utilities.ranges import NonNegative, Positive


class Contrastive(TripletCriterion):
    """Contrastive loss (Hadsell et al., "Dimensionality Reduction by Learning an Invariant
    Mapping", CVPR 2006, eq. 4), with distances in the place of their halved squares, as in the base
    framework:

        L = mean_t w+_ap relu(d_ap-pos_margin) + mean_t w-_an relu(neg_margin-d_an)

    With avg_nonzero each mean runs over its hinges > 0, counted without the weights.

    Weights: as in the formula.
    """

    pos_margin: NonNegative = 0.0
    neg_margin: Positive = 1.0
    avg_nonzero: bool = False

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), T triplets -> scalar."""
        anchor, positive, negative = triplets[:3]
        w_ap, w_an = triplet_weights(weight, triplets, label)  # (T,) each
        d_ap = distance_between(x, anchor, positive)  # (T,)
        d_an = distance_between(x, anchor, negative)  # (T,)
        pull = mean_over(relu(d_ap - self.pos_margin), w_ap, nonzero=self.avg_nonzero)
        push = mean_over(relu(self.neg_margin - d_an), w_an, nonzero=self.avg_nonzero)
        return pull + push
