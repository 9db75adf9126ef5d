"""Margin loss: positives inside, negatives outside a boundary around each class."""
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from criteria.base import Criterion, weight_of
from utilities.errors import UsageError
from utilities.pairwise import squared_distance_between


class Margin(Criterion):
    """Margin loss (Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, eq. 5 and 6).

        L = [ sum_t relu(D_ap - b + m) + relu(b - D_an + m) + nu sum_t b ] / cnt,   D = sqrt(d^2 + 1e-8)
        cnt = number of hinges > 0, positive and negative counted apart; cnt = 0: L = 0

    b is beta, or (default) a learned boundary of the anchor's class, with its own learning rate beta_lr.
    Deviation: 1e-8 inside the root, as in the authors' code; Wu 2017 writes nu's term per class.

    Weights: on 'term', w+_ap relu(D_ap - b + m) and w-_an relu(b - D_an + m), cnt of the unweighted hinges, so that a
    small weight lowers the loss; on 'distance' (as published by LM-Metric), relu(w+_ap D_ap - b + m) and
    relu(b - w-_an D_an + m), cnt of these.
    """

    needs_triplets = True
    takes_references = True
    accepts_weight = "pair"
    placements = ("term", "distance")

    def __init__(self, n_classes: int, margin: float = 0.2, beta: float = 1.2, beta_lr: float = 5e-4,
                 beta_constant: bool = False, nu: float = 0.0):
        super().__init__()
        if beta_constant and nu:
            raise UsageError(f"--loss_margin_nu {nu} regularises learned boundaries: drop --loss_margin_beta_constant.")
        self.margin, self.nu, self.own_lr = margin, nu, beta_lr
        self.beta = beta if beta_constant else nn.Parameter(torch.full((n_classes,), float(beta)))  # (n_classes,)

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,), T triplets -> scalar."""
        anchor, pair = triplets.anchor, torch.stack([triplets.positive, triplets.negative])  # (T,), (2, T)
        boundary = self.beta[label[anchor]].to(x.dtype) if isinstance(self.beta, nn.Parameter) else self.beta  # (T,)
        w = None if weight[0] is None else torch.stack([weight_of(w, anchor, other) for w, other in zip(weight, pair)])
        d = (squared_distance_between(x, anchor, pair) + 1e-8).sqrt()  # (2, T)
        if w is not None and self.weight_on == "distance":
            d = w * d  # (2, T)
        near, far = (d - boundary).unbind()  # (T,) each
        hinge = relu(torch.stack([near, -far]) + self.margin)  # (2, T)
        count = (hinge > 0).sum()
        if w is not None and self.weight_on == "term":
            hinge = w * hinge  # (2, T)
        total = hinge.sum() + (self.nu * boundary.sum() * (count > 0) if self.nu else 0)
        return total / count.clamp(min=1)
