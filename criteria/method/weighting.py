"""From an action of the policy to the weight of every pair.

WEIGHTINGS holds the kinds of action. One more is a class with the methods of Sharpness, and a line in WEIGHTINGS.
Sign 0 stands for positive pairs, sign 1 for negative ones.
"""
import torch
from torch import Tensor

from criteria.method.pairs import Pairs
from utilities.pairwise import only
from utilities.registry import known_name

POSITIVE = 0
NEGATIVE = 1
SCALES = ("mean", "none")


class Sharpness:
    """How sharply the weights of an anchor's pairs concentrate on the hard ones.

        w+_ij = |P_i| softmax_{j in P_i}(-b_p s_ij),   w-_ij = |N_i| softmax_{j in N_i}(b_n s_ij)

    The weights of a row have mean one. b = 0 is uniform, a large b is the hardest pair alone, a negative b_p prefers
    easy positives. An action picks b_p and b_n from the grids.
    """

    names = ("b_p", "b_n")
    grids = (
        (-20.0, -5.0, 0.0, 2.0, 5.0, 10.0, 20.0, 40.0),
        (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
    )

    def weights(self, b: Tensor, sign: int, pairs: Pairs) -> Tensor:
        """b (K, 1 or A) for the batch or for each anchor -> weights (K, A, N)."""
        mask = pairs.negative if sign == NEGATIVE else pairs.positive
        slope = b if sign == NEGATIVE else -b
        counted = only(torch.zeros_like(pairs.similarity), mask)  # (A, N)
        logit = torch.addcmul(counted, slope[..., None], pairs.similarity)  # (K, A, N)
        # zero outside the mask, but in a row without pairs
        return logit.softmax(-1) * mask.sum(-1, keepdim=True)

    def mean_weights(self, probability: Tensor, grid: Tensor, sign: int, pairs: Pairs) -> Tensor:
        """E_b[w] under probabilities (1 or A, G) of the grid (G,) -> (1, A, N)."""
        b = grid[:, None].expand(-1, len(probability))  # (G, 1 or A)
        weights = self.weights(b, sign, pairs)  # (G, A, N)
        return (probability.T[..., None] * weights).sum(0, keepdim=True)


class Factor:
    """One factor of largest {1..levels}/levels for all pairs of a sign of the anchor, as published.

    scale 'mean' divides the factors by their mean over the batch, so that they cannot act as a learning rate; 'none'
    leaves them.
    """

    names = ("phi_p", "phi_n")

    def __init__(self, levels: int = 64, scale: str = "mean", largest: float = 1.0):
        known_name(scale, SCALES, "scale", "--policy_scale")
        grid = tuple(largest * (i + 1) / levels for i in range(levels))
        self.grids = (grid, grid)
        self.scale = scale

    def weights(self, factor: Tensor, sign: int, pairs: Pairs) -> Tensor:
        """factor (K, 1 or A) -> weights (K, A, 1)."""
        anchors = len(pairs.similarity)
        weights = factor[..., None].expand(len(factor), anchors, -1)  # (K, A, 1)
        if self.scale == "none":
            return weights
        return weights / weights.mean(1, keepdim=True)

    def mean_weights(self, probability: Tensor, grid: Tensor, sign: int, pairs: Pairs) -> Tensor:
        """The weight of the mean factor, (1, A, 1)."""
        mean = (probability * grid).sum(-1)  # (1 or A,)
        return self.weights(mean[None], sign, pairs)


Weighting = Sharpness | Factor
WEIGHTINGS: dict[str, type[Weighting]] = {
    "sharpness": Sharpness,
    "weight": Factor,
}


def grid_tensors(weighting: Weighting) -> tuple[Tensor, Tensor]:
    """The grids of both signs as tensors."""
    positive, negative = weighting.grids
    return torch.tensor(positive), torch.tensor(negative)
