"""Multi-similarity loss with its own pair mining."""
import torch
from torch import Tensor
from torch.nn.functional import softplus

from criteria.base import Criterion, pair_masks, weighted_logsumexp
from utilities.pairwise import similarity


class MultiSimilarity(Criterion):
    """Multi-similarity loss (Wang et al., CVPR 2019, eq. 10 to 12 and 15), S = x x^T:

        P_i = {p: S_ip - eps < max_n S_in},   N_i = {n: S_in + eps > min_p S_ip}
        l_i = 1/a log(1 + sum_{P_i} w+_ip exp(-a (S_ip - lam))) + 1/b log(1 + sum_{N_i} w-_in exp(b (S_in - lam)))
        L = 1/B sum_i l_i   over the whole batch; an anchor with no mined pair adds zero

    a = pos_weight, b = neg_weight, eps = margin, lam = thresh. Deviation: b = 40 as in the base framework; the paper
    has 50.

    Weights: w+ and w- multiply the exponentials of positive and negative pairs (log-weights inside the log-sum-exp);
    mining carries no gradient and does not see them.
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, pos_weight: float = 2.0, neg_weight: float = 40.0, margin: float = 0.1, thresh: float = 0.5):
        super().__init__()
        self.pos_weight, self.neg_weight, self.margin, self.thresh = pos_weight, neg_weight, margin, thresh

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar."""
        s = similarity(x[:anchors], x)  # (A, N)
        total = 0
        for scale, w, mask in zip((-self.pos_weight, self.neg_weight), weight, self.mined(s.detach(), label, anchors)):
            exponent = weighted_logsumexp(scale * (s - self.thresh), w, mask)  # (A,)
            total = total + softplus(exponent) / abs(scale)  # (A,)
        return total.mean()

    def mined(self, s: Tensor, label: Tensor, anchors: int | None) -> tuple[Tensor, Tensor]:
        """The masks of P_i and N_i, (A, N) each."""
        positive, negative = pair_masks(label, anchors)
        hardest_negative = s.masked_fill(~negative, -torch.inf).amax(-1, keepdim=True)  # (A, 1)
        hardest_positive = s.masked_fill(~positive, torch.inf).amin(-1, keepdim=True)  # (A, 1)
        return positive & (s - self.margin < hardest_negative), negative & (s + self.margin > hardest_positive)
