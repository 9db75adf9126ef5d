"""Adversarial separation: parts of the embedding that cannot be predicted from each other."""
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from criteria.base import Criterion
from utilities.errors import UsageError
from utilities.pairwise import unit


class AdversarialSeparation(Criterion):
    """Adversarial separation of learners (Opitz et al., "Deep Metric Learning with BIER", TPAMI 2020, as used in
    Milbich et al., "Sharing Matters for Generalization in Deep Metric Learning", TPAMI 2022), beside a base loss:

        L = base(x) - weight sum_{i < j} mean_{b, k} (R(u_i)_bk unit(f_ij(R(u_j)))_bk)^2 + reg_weight W
        f(u) = W_2 relu(W_1 u + b_1) + b_2,   R(u) = u with its gradient times -1
        W = sum_{i < j} sum of both layers' mean_rows (|row of W|^2 - 1)^2 + relu(|b|^2 - 1)

    u_1 to u_parts are equal parts of the dimensions of x, each with unit rows; `hidden` is the width of f. The
    regressors f learn to predict part i from part j, the reversed gradient makes the network prevent it; so the
    gradient in x is not the derivative of the value. lr is that of f; negative: that of the network, as in Milbich et
    al. Deviations: there the learners are heads of a network, here parts of its one embedding. Unit predictions are
    those of the base framework, which has no W; BIER's are not and need W (reg_weight 100 times weight).

    Weights: those of the base loss, as are miner, placements and references; the separation takes none and reads the
    batch alone.
    """

    accepts_weight = "pair"                                                        # as multisimilarity, the default
    takes_references = True

    def __init__(self, embed_dim: int, base: Criterion, parts: int = 2, hidden: int = 512, weight: float = 1500.0,
                 reg_weight: float = 0.0, lr: float = -1.0):
        super().__init__()
        if parts < 2 or embed_dim % parts:
            raise UsageError(f"--loss_adversarial_separation_parts {parts} must be at least 2 and divide --embed_dim "
                             f"{embed_dim}.")
        self.base, self.weight, self.reg_weight, self.own_lr = base, weight, reg_weight, None if lr < 0 else lr
        for name in ("needs_triplets", "needs_quadruplets", "takes_references", "accepts_weight", "placements",
                     "weight_on"):
            setattr(self, name, getattr(base, name))
        target, source = torch.triu_indices(parts, parts, 1)  # (F,) each, i and j
        self.register_buffer("target", target, persistent=False)
        self.register_buffer("source", source, persistent=False)
        self.parts, width = parts, embed_dim // parts
        for layer, fan_in, fan_out in ((1, width, hidden), (2, hidden, width)):    # as torch initialises a linear layer
            bound = 1 / math.sqrt(fan_in)
            for name, shape in ((f"w{layer}", (fan_out, fan_in)), (f"b{layer}", (fan_out,))):
                drawn = torch.empty(len(target), *shape).uniform_(-bound, bound)
                self.register_parameter(name, nn.Parameter(drawn))  # (F, out, in) or (F, out)

    def is_class_specific(self) -> bool:
        """As the base loss; the regressors are the same for all classes."""
        return self.base.is_class_specific()

    def param_groups(self, lr: float) -> list[dict]:
        """The base loss's groups and that of the regressors."""
        own = [self.w1, self.b1, self.w2, self.b2]
        return [*self.base.param_groups(lr),
                {"params": own, "lr": lr if self.own_lr is None else self.own_lr, "weight_decay": 0.0}]

    def loss(self, x, label, triplets, weight, anchors=None) -> Tensor:
        """x (N, D), label (N,) -> scalar."""
        base = self.base.loss(x, label, triplets, weight, anchors)
        separation = self.weight * self.similarity(x[:anchors])
        return base - separation + (self.reg_weight * self.regulariser() if self.reg_weight else 0)

    def similarity(self, x: Tensor) -> Tensor:
        """How well the regressors predict one part from another, with the gradient in x (B, D) reversed -> scalar."""
        u = unit(x.unflatten(-1, (self.parts, -1)).transpose(0, 1))  # (P, B, d)
        reversed_u = 2 * u.detach() - u                                            # the value of u, minus its gradient
        w1, b1, w2, b2 = (p.to(x.dtype) for p in (self.w1, self.b1, self.w2, self.b2))
        hidden = relu(reversed_u[self.source] @ w1.mT + b1[:, None])  # (F, B, H)
        prediction = unit(hidden @ w2.mT + b2[:, None])  # (F, B, d)
        return (reversed_u[self.target] * prediction).square().mean((-1, -2)).sum()

    def regulariser(self) -> Tensor:
        """W: rows of unit length, biases at most that."""
        rows = sum((w.square().sum(-1) - 1).square().mean(-1).sum() for w in (self.w1, self.w2))
        return rows + sum(relu(b.square().sum(-1) - 1).sum() for b in (self.b1, self.b2))
