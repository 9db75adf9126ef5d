"""Contrastive loss on the pairs of given triplets."""
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import Criterion, mean_over, weight_of
from utilities.pairwise import distance_between


class Contrastive(Criterion):
    """Contrastive loss (Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, eq. 4),
    in the form of the base framework, with distances d in the place of their halved squares:

        L = mean_t w+_ap relu(d_ap - m_pos) + mean_t w-_an relu(m_neg - d_an)

    over all triplets, zeros included. With avg_nonzero each mean runs over its hinges > 0, counted without the weights,
    so that a small weight lowers the loss.

    Weights: w+ scales the hinge of a positive pair, w- that of a negative one.
    """

    needs_triplets = True
    takes_references = True
    accepts_weight = "pair"

    def __init__(self, pos_margin: float = 0.0, neg_margin: float = 1.0, avg_nonzero: bool = False):
        super().__init__()
        self.pos_margin, self.neg_margin, self.avg_nonzero = pos_margin, neg_margin, avg_nonzero

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), T triplets -> scalar."""
        anchor, *others = triplets
        total = 0
        for sign, bound, other, w in zip((1, -1), (self.pos_margin, self.neg_margin), others, weight):
            hinge = relu(sign * (distance_between(x, anchor, other) - bound))  # (T,)
            total = total + mean_over(hinge, weight_of(w, anchor, other), nonzero=self.avg_nonzero)
        return total
