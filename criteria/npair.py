"""N-pair loss: every given pair against all negatives of its anchor."""
import torch
from torch import Tensor
from torch.nn.functional import softplus

from criteria.base import Criterion, mean_over, weight_of, weighted_logsumexp
from utilities.pairwise import root, similarity


class NPair(Criterion):
    """N-pair loss (Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016), in the
    form of the base framework:

        L = mean_(a,p) w+_ap log(1 + sum_n w-_an exp(s_an - s_ap)) + l2 mean_i ||x_i||,   s = x x^T

    over the pairs (a, p) of the given triplets, in which n runs over all images of other classes than a's, and i over
    the batch. With multiclass, n runs over the positives of the other given pairs that are of another class (Sohn 2016,
    who gives one pair per class). Deviations: the norm is not squared; no triplets, no norm term.

    Weights: w+ scales the term of a positive pair, w- the exponential of a negative one.
    """

    needs_triplets = True
    takes_references = True
    accepts_weight = "pair"

    def __init__(self, l2: float = 0.005, multiclass: bool = False):
        super().__init__()
        self.l2, self.multiclass = l2, multiclass

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,), T triplets -> scalar; the sum over n depends on the anchor alone, so it is taken for
        each of T or of A rows, whichever are fewer."""
        anchor, positive, _ = triplets
        number = len(x[:anchors])
        few = len(anchor) < number
        row = anchor if few else torch.arange(number, device=x.device)  # (R,)
        place = torch.arange(len(anchor), device=x.device) if few else anchor  # (T,) where each anchor's row is
        s, (w_positive, w_negative) = similarity(x[row], x), weight  # (R, N)
        if self.multiclass:
            ones = torch.ones(len(positive), dtype=x.dtype, device=x.device)  # (T,)
            times = torch.zeros(len(x), dtype=x.dtype, device=x.device).index_add(0, positive, ones)  # (N,)
            w_negative = times.expand(number, -1) if w_negative is None else times * w_negative  # (A, N)
        w_negative = None if w_negative is None else w_negative[row]  # (R, 1 or N)
        against = weighted_logsumexp(s, w_negative, label[row, None] != label)  # (R,)
        term = softplus(against[place] - s[place, positive])  # (T,)
        norm = root(x[:anchors].square().sum(-1)).mean() if len(anchor) else 0
        return mean_over(term, weight_of(w_positive, anchor, positive)) + self.l2 * norm
