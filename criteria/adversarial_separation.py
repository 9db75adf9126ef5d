"""Adversarial separation: parts of the embedding that cannot be predicted from each other."""
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from criteria.base import Criterion
from utilities.errors import UsageError
from utilities.pairwise import unit
from utilities.ranges import Finite, NonNegative, PositiveInt, Width

FROM_BASE = (
    "needs_triplets",
    "needs_quadruplets",
    "compares_images",
    "takes_references",
    "accepts_weight",
    "placements",
    "weight_on",
)


class AdversarialSeparation(Criterion):
    """Adversarial separation of learners (Opitz et al., "Deep Metric Learning with BIER", TPAMI
    2020, as used in Milbich et al., "Sharing Matters for Generalization in Deep Metric Learning",
    TPAMI 2022), beside a base loss:

        L = base(x) - weight sum_{i<j} mean_{b,k} (R(u_i)_bk unit(f_ij(R(u_j)))_bk)^2 + reg_weight W
        f(u) = W_2 relu(W_1 u + b_1) + b_2,   R(u) = u with its gradient times -1
        W = sum_{i<j} sum of both layers' mean_rows (|row of W|^2 - 1)^2 + relu(|b|^2-1)

    u_1 to u_parts are equal parts of x with unit rows. The regressors f (width `hidden`) predict
    part i from part j. The reversed gradient makes the network prevent it, so the gradient in x is
    not the derivative of the value. A negative lr is that of the network. Deviations: the paper
    separates heads of a network. Predictions are unit rows, as in the base framework, and need no
    W; those of BIER need it (reg_weight 100 times weight).

    Weights: those of the base loss, like miner and past batches; the separation takes none.
    """

    # those of multisimilarity, the default base loss
    accepts_weight = "pair"
    takes_references = True

    def __init__(
        self,
        embed_dim: int,
        base: Criterion,
        parts: PositiveInt = 2,
        hidden: Width = 512,
        weight: NonNegative = 1500.0,
        reg_weight: NonNegative = 0.0,
        lr: Finite = -1.0,
    ):
        super().__init__()
        if parts < 2 or embed_dim % parts:
            raise UsageError(f"--loss_adversarial_separation_parts {parts} must be at least 2 and "
                             f"divide --embed_dim {embed_dim}.")
        self.base = base
        for name in FROM_BASE:
            setattr(self, name, getattr(base, name))
        self.parts = parts
        self.weight = weight
        self.reg_weight = reg_weight
        self.own_lr = None if lr < 0 else lr
        target, source = torch.triu_indices(parts, parts, 1)  # (F,) each, i and j
        self.register_buffer("target", target, persistent=False)
        self.register_buffer("source", source, persistent=False)
        width = embed_dim // parts
        regressors = len(target)
        self.w1 = uniform(width, regressors, hidden, width)  # (F, H, d)
        self.b1 = uniform(width, regressors, hidden)  # (F, H)
        self.w2 = uniform(hidden, regressors, width, hidden)  # (F, d, H)
        self.b2 = uniform(hidden, regressors, width)  # (F, d)

    def is_class_specific(self) -> bool:
        """As the base loss; the regressors are the same for all classes."""
        return self.base.is_class_specific()

    def param_groups(self, lr: float | None = None) -> list[dict]:
        """The base loss's groups and that of the regressors."""
        regressors = [self.w1, self.b1, self.w2, self.b2]
        return [*self.base.param_groups(lr), self.own_group(regressors, lr)]

    def loss(self, x, label, triplets, weight, anchors):
        """x (N, D), label (N,) -> scalar."""
        base = self.base.loss(x, label, triplets, weight, anchors)
        loss = base - self.weight * self.similarity(x[:anchors])
        if not self.reg_weight:
            return loss
        return loss + self.reg_weight * self.regulariser()

    def similarity(self, x: Tensor) -> Tensor:
        """How well the regressors predict one part from another -> scalar.

        The gradient in x (B, D) is reversed.
        """
        parts = x.unflatten(-1, (self.parts, -1))  # (B, P, d)
        u = unit(parts.transpose(0, 1))  # (P, B, d)
        # the value of u, minus its gradient
        reversed_u = 2 * u.detach() - u  # (P, B, d)
        source = reversed_u[self.source]  # (F, B, d)
        hidden = relu(layer(source, self.w1, self.b1))  # (F, B, H)
        prediction = unit(layer(hidden, self.w2, self.b2))  # (F, B, d)
        target = reversed_u[self.target]  # (F, B, d)
        similar = (target * prediction).square()  # (F, B, d)
        return similar.mean((-1, -2)).sum()

    def regulariser(self) -> Tensor:
        """W: rows of unit length, biases at most that."""
        rows = rows_penalty(self.w1) + rows_penalty(self.w2)
        biases = bias_penalty(self.b1) + bias_penalty(self.b2)
        return rows + biases


def uniform(fan_in: int, *shape: int) -> nn.Parameter:
    """A parameter as torch initialises a linear layer."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Linear layers, one for each of x (F, B, in): w (F, out, in), b (F, out) -> (F, B, out)."""
    w = w.to(x.dtype)
    b = b.to(x.dtype)
    return x @ w.mT + b[:, None]


def rows_penalty(w: Tensor) -> Tensor:
    """Sum over layers (F, out, in) of mean_rows (|row|^2 - 1)^2."""
    excess = w.square().sum(-1) - 1  # (F, out)
    return excess.square().mean(-1).sum()


def bias_penalty(b: Tensor) -> Tensor:
    """Sum over layers (F, out) of relu(|b|^2 - 1)."""
    excess = b.square().sum(-1) - 1  # (F,)
    return relu(excess).sum()
