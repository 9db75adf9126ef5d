"""Circle loss: every pair pulled or pushed by as much as it is away from where it should be."""
from torch import Tensor
from torch.nn.functional import relu, softplus

from criteria.base import Criterion, pair_masks, weighted_logsumexp
from utilities.pairwise import similarity


class Circle(Criterion):
    """Circle loss (Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, eq. 4
    to 6 with the margins of section 3.3), s = x x^T:

        l_i = log(1 + sum_{P_i} w+_ip exp(-g a_ip (s_ip - 1 + m)) sum_{N_i} w-_in exp(g a_in (s_in - m)))
        a_ip = relu(1 + m - s_ip),   a_in = relu(s_in + m),   g = gamma, m = margin
        L = mean_i l_i   over the anchors i that have a positive and a negative

    The paces a carry no gradient, so the gradient is not the derivative of the value. Margin and gamma are those of the
    paper's fine-grained retrieval. x is used as given: unit rows, from the network, make s a cosine. Deviation: the
    paper writes one anchor; the mean counts every anchor with both signs, also those whose loss is zero.

    Weights: w+ and w- multiply the exponentials of positive and negative pairs (log-weights inside the log-sum-exp).
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, margin: float = 0.4, gamma: float = 80.0):
        super().__init__()
        self.margin, self.gamma = margin, gamma

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar."""
        s, (positive, negative) = similarity(x[:anchors], x), pair_masks(label, anchors)  # (A, N) each
        a_p, a_n = relu(1 + self.margin - s.detach()), relu(s.detach() + self.margin)  # (A, N) each
        pull = weighted_logsumexp(-self.gamma * a_p * (s - 1 + self.margin), weight[0], positive)  # (A,)
        push = weighted_logsumexp(self.gamma * a_n * (s - self.margin), weight[1], negative)  # (A,)
        return softplus(pull + push).sum() / positive.any(-1).sum().clamp(min=1)   # zero where one of them is empty
