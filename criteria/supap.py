"""SupAP with calibration (ROADMAP): an upper bound on one minus average precision, and hinges on the similarities."""
import torch
from torch import Tensor
from torch.nn.functional import relu

from criteria.base import Criterion, masked_weights, pair_masks
from criteria.ranking import mean_over_queries, ranked, standing_above
from utilities.pairwise import similarity


class SupAP(Criterion):
    """ROADMAP (Ramzi et al., "Robust and Decomposable Average Precision for Image Retrieval", NeurIPS 2021).

        L = mean_q [ (1 - lam) SupAP_q + lam Cal_q ],   t_ij = s_qj - s_qi,   s = x x^T
        SupAP_q = 1 - 1/|P_q| sum_{i in P_q} r+_i / (r+_i + r-_i)
        r+_i = 1 + sum_{j in P_q, j != i} w+_qj [t_ij >= 0],   r-_i = sum_{j in N_q} w-_qj H(t_ij)
        H(t) = sigmoid(t / tau) for t < 0,   1/2 + sigmoid(t / tau) for 0 <= t <= delta,
               1/2 + sigmoid(delta / tau) + rho (t - delta) for t > delta
        Cal_q = 1/|P_q| sum_{p in P_q} w+_qp relu(alpha - s_qp) + 1/|N_q| sum_{n in N_q} w-_qn relu(s_qn - beta)

    over the queries q that have a positive; lam = calibration; the query is not an item of its own ranking. r+ carries
    no gradient. H is at least the step that AP counts, also at ties, so that SupAP_q is at least 1 - AP_q. The
    authors' code starts the third piece from 1.44 (at first without - delta), takes 1/2 at t = 0,
    averages the hinges over the active ones of the batch, and adds both terms whole.

    Weights: w_qj multiplies the step of the ranked item j and the hinge of the pair (q, j): w+ positives, w- negatives.
    """

    accepts_weight = "pair"
    takes_references = True

    def __init__(self, tau: float = 0.01, rho: float = 100.0, delta: float = 0.05, alpha: float = 0.9,
                 beta: float = 0.6, calibration: float = 0.5):
        super().__init__()
        self.tau, self.rho, self.delta = tau, rho, delta
        self.alpha, self.beta, self.calibration = alpha, beta, calibration

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar; no query with a positive: zero."""
        s, masks = similarity(x[:anchors], x), pair_masks(label, anchors)  # (A, N) each
        weights = [masked_weights(w, mask, x.dtype) for w, mask in zip(weight, masks)]  # (A, N) each
        item, real = ranked(masks[0])  # (A, P) each
        positive, negative = standing_above(self.steps, item, s / self.tau, *weights).unbind(-1)  # (A, P) each
        hinges = (relu(self.alpha - s) * weights[0], relu(s - self.beta) * weights[1])  # (A, N) each
        pull, push = (h.sum(-1) / mask.sum(-1).clamp(min=1) for h, mask in zip(hinges, masks))  # (A,) each
        imprecision = (1 - self.calibration) * negative / (1 + positive + negative)  # (A, P)
        return mean_over_queries(imprecision, real, self.calibration * (pull + push))

    def steps(self, gap: Tensor, weight: Tensor) -> Tensor:
        """Positives counted by the step, negatives by H: gap t / tau (A, P, N), weight (A, N, 2) -> (A, P, 2)."""
        beyond = relu(gap - self.delta / self.tau)  # (A, P, N)
        rise = torch.add((gap - beyond).sigmoid(), beyond, alpha=self.rho * self.tau)  # (A, P, N) H without its jump
        w_positive, w_negative = weight.split(1, -1)  # (A, N, 1) each
        reached = (gap >= 0).to(gap.dtype) @ torch.cat([w_positive, w_negative / 2], -1)  # (A, P, 2)
        return torch.cat([reached[..., :1], reached[..., 1:] + rise @ w_negative], -1)
