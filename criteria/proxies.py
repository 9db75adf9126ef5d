"""What the losses that compare images with proxies of classes share."""
import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from criteria.base import Criterion, PairWeights
from utilities.pairwise import lowest, similarity, weighted_logsumexp


def new_proxies(*shape: int) -> nn.Parameter:
    """Proxies (..., D) in random directions.

    Uniform in the cube of half side 1/sqrt(D), as in the base framework.
    """
    bound = 1 / math.sqrt(shape[-1])
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))  # (..., D)


class ProxyCriterion(Criterion):
    """A loss with one proxy of every class; its argument `lr` is the proxies' learning rate.

    In the formulas c_ik = x_i . p_k / |p_k| is the cosine of a unit row and the proxy of class k,
    and cross_entropy is the function below.
    """

    n_classes: int
    embed_dim: int

    accepts_weight = "anchor"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own_lr = self.lr
        self.proxies = self.first_proxies()  # (C, D)

    def first_proxies(self) -> nn.Parameter:
        """The proxies before training."""
        return new_proxies(self.n_classes, self.embed_dim)


class Cosine(torch.autograd.Function):
    """The product of `cosine` and the lengths of the proxies; its gradient reads the proxies twice.

        s_ik = c x_i . p_k / l_k,   l_k = |p_k|
        dL/dp_k = sum_i g_ik (c x_i / l_k - s_ik p_k / l_k^2),   g = dL/ds

    Autograd reads them five times and needs as many buffers of their size: with many classes this
    takes as long as two matrix products.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, proxies: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """x (B, D), proxies (C, D) -> s (B, C), l (C,)."""
        length = torch.linalg.vector_norm(proxies, dim=-1).clamp(min=1e-12)  # (C,)
        return similarity(x, proxies).mul_(scale / length), length

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        """Keep what the gradient needs."""
        x, proxies, ctx.scale = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, proxies, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor, _) -> tuple:
        """g (B, C) -> dL/dx (B, D), dL/dp (C, D)."""
        x, proxies, s, length = ctx.saved_tensors
        # dL/d(x_i . p_k)
        product = g * (ctx.scale / length)  # (B, C)
        dp = None
        if ctx.needs_input_grad[1]:
            along = -(g * s).sum(0) / length.square()  # (C,)
            dp = (product.T @ x).addcmul_(proxies, along[:, None])  # (C, D)
        return product @ proxies, dp, None


def cosine(x: Tensor, proxies: Tensor, scale: float = 1.0) -> Tensor:
    """scale x_i . p_k / |p_k| of rows x (B, D) and proxies (C, D).

    Not the proxies but the columns of the product are scaled: with many classes they are smaller.
    """
    return Cosine.apply(x, proxies.to(x.dtype), scale)[0]  # (B, C)


def own_and_others(logit: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (B, C) of the own classes (B, 1), and those of the others (B, C).

    In the second a huge negative number stands at the own class.
    """
    own = label[:, None]  # (B, 1)
    others = logit.scatter(1, own, lowest(logit))  # (B, C)
    return logit.gather(1, own), others


def weighted(term: Tensor, weight: Tensor | None) -> Tensor:
    """The term of every image times its weight, (B, 1) each."""
    return term if weight is None else weight.to(term.dtype) * term  # (B, 1)


def cross_entropy(own: Tensor, others: Tensor, weight: PairWeights) -> Tensor:
    """Weighted cross-entropy of logits z, as `own_and_others` gives them.

        mean_i w+_i [ -z_y + log( exp(z_y) + w-_i sum_{k != y} exp(z_k) ) ]

    The bracket is softplus(log w-_i + log sum_{k != y} exp(z_k) - z_y), which keeps its digits near
    zero. With one class only it is zero.
    """
    gap = others.logsumexp(-1, keepdim=True) - own  # (B, 1)
    if weight.negative is not None:
        every = torch.ones_like(gap, dtype=torch.bool)
        gap = weighted_logsumexp(gap, weight.negative, every)[:, None]  # (B, 1)
    return weighted(softplus(gap), weight.positive).mean()
