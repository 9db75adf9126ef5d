"""SupAP with calibration (ROADMAP): a bound on one minus average precision, and hinges."""
import torch
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import PairCriterion
from criteria.ranking import mean_over_queries, standing_above
from utilities.pairwise import identity, listed, masked_mean, masked_weights, pair_masks, similarity
from utilities.ranges import Finite, NonNegative, Positive, Probability


class SupAP(PairCriterion):
    """ROADMAP (Ramzi et al., "Robust and Decomposable Average Precision for Image Retrieval",
    NeurIPS 2021).

        L = mean_q [(1-calibration) SupAP_q + calibration Cal_q],   t_ij = s_qj - s_qi
        SupAP_q = 1 - 1/|P_q| sum_{i in P_q} r+_i / (r+_i + r-_i)
        r+_i = 1 + sum_{j in P_q,j!=i} w+_qj [t_ij >= 0],   r-_i = sum_{j in N_q} w-_qj H(t_ij)
        H(t) = sigmoid(t/tau) for t < 0,   1/2 + sigmoid(t/tau) for 0 <= t <= delta,
               1/2 + sigmoid(delta/tau) + rho (t-delta) for t > delta
        Cal_q = 1/|P_q| sum_{p in P_q} w+_qp relu(alpha-s_qp)
              + 1/|N_q| sum_{n in N_q} w-_qn relu(s_qn-beta)

    With exclude_self (default) the query is not in its own ranking; without, it is one of its
    positives, as in the authors' code. r+ carries no gradient. H is at least the step that AP
    counts, so `SupAP_q >= 1 - AP_q`. Deviations: the authors' code starts the third piece from
    1.44, takes 1/2 at t = 0, averages the hinges over the active ones of the batch, and adds both
    terms whole.

    Weights: as in the formula.
    """

    tau: Positive = 0.01
    rho: NonNegative = 100.0
    delta: NonNegative = 0.05
    alpha: Finite = 0.9
    beta: Finite = 0.6
    calibration: Probability = 0.5
    exclude_self: bool = True

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar; no query with a positive: zero."""
        s = similarity(x[:anchors], x)  # (A, N)
        positive, negative = masks = pair_masks(label, anchors)  # (A, N) each
        w_positive, w_negative = masked_weights(weight, masks, x.dtype)  # (A, N) each
        relevant = positive
        w_relevant = w_positive
        if not self.exclude_self:
            itself = identity(label, anchors)  # (A, N)
            relevant = positive | itself
            w_relevant = w_positive + itself
        item, real = listed(relevant)  # (A, P) each
        above = standing_above(self.steps, s / self.tau, item, w_relevant, w_negative)
        r_positive, r_negative = above.unbind(-1)  # (A, P) each
        pull = masked_mean(relu(self.alpha - s) * w_positive, positive, -1)  # (A,)
        push = masked_mean(relu(s - self.beta) * w_negative, negative, -1)  # (A,)
        imprecision = (1 - self.calibration) * r_negative / (1 + r_positive + r_negative)  # (A, P)
        return mean_over_queries(imprecision, real, self.calibration * (pull + push))

    def steps(self, gap: Tensor, weight: Tensor) -> Tensor:
        """Positives counted by the step, negatives by H.

        gap t / tau (A, P, N), weight (A, 2, N) -> (A, P, 2).
        """
        beyond = relu(gap - self.delta / self.tau)  # (A, P, N)
        # H without its jump
        rise = torch.add((gap - beyond).sigmoid(), beyond, alpha=self.rho * self.tau)  # (A, P, N)
        w_positive, w_negative = weight.split(1, 1)  # (A, 1, N) each
        jump = torch.cat([w_positive, w_negative / 2], 1)  # (A, 2, N)
        reached = (gap >= 0).to(gap.dtype) @ jump.mT  # (A, P, 2)
        r_positive, r_negative = reached.split(1, -1)  # (A, P, 1) each
        return torch.cat([r_positive, r_negative + rise @ w_negative.mT], -1)
