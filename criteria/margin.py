"""Margin loss: positives inside, negatives outside a boundary around each class."""
import torch
from torch import nn
from torch.nn.functional import relu

from criteria.base import TripletCriterion, triplet_weights
from utilities.errors import UsageError
from utilities.pairwise import squared_distance_between
from utilities.ranges import NonNegative, Positive


class Margin(TripletCriterion):
    """Margin loss (Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, eq. 5 and
    6).

        L = [sum_t relu(D_ap - b + m) + relu(b - D_an + m) + nu sum_t b] / cnt
        D = sqrt(d^2+1e-8),   cnt = number of hinges > 0;   cnt = 0: L = 0

    m is the margin. b is beta, or (default) a learned boundary of the anchor's class with the
    learning rate beta_lr. Deviations: 1e-8 is that of the authors' code; the paper writes nu's term
    per class.

    Weights: on 'term', `w+_ap relu(D_ap - b + m)` and `w-_an relu(b - D_an + m)`, with cnt of the
    unweighted hinges. On 'distance' (as published by LM-Metric), `relu(w+_ap D_ap - b + m)` and
    `relu(b - w-_an D_an + m)`, with cnt of these.
    """

    placements = ("term", "distance")

    def __init__(
        self,
        n_classes: int,
        margin: NonNegative = 0.2,
        beta: Positive = 1.2,
        beta_lr: NonNegative = 5e-4,
        beta_constant: bool = False,
        nu: NonNegative = 0.0,
    ):
        super().__init__()
        if beta_constant and nu:
            raise UsageError(f"--loss_margin_nu {nu} regularises learned boundaries: "
                             "drop --loss_margin_beta_constant.")
        self.margin = margin
        self.nu = nu
        self.own_lr = beta_lr
        self.beta = beta
        if not beta_constant:
            boundaries = torch.full((n_classes,), float(beta))
            self.beta = nn.Parameter(boundaries)  # (n_classes,)

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,), T triplets -> scalar."""
        anchor = triplets.anchor  # (T,)
        pair = torch.stack([triplets.positive, triplets.negative])  # (2, T)
        boundary = self.beta
        if isinstance(boundary, nn.Parameter):
            boundary = boundary[label[anchor]].to(x.dtype)  # (T,)
        w = 1.0
        if weight.positive is not None:
            w = torch.stack(triplet_weights(weight, triplets, label))  # (2, T)
        d = (squared_distance_between(x, anchor, pair) + 1e-8).sqrt()  # (2, T)
        if self.weight_on == "distance":
            d = w * d
        near, far = (d - boundary).unbind()  # (T,) each
        hinge = relu(torch.stack([near, -far]) + self.margin)  # (2, T)
        count = (hinge > 0).sum()
        if self.weight_on == "term":
            hinge = w * hinge
        total = hinge.sum()
        if self.nu:
            total = total + self.nu * boundary.sum() * (count > 0)
        return total / count.clamp(min=1)
