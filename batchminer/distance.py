"""Distance-weighted negatives."""
import torch
from torch import Tensor

from batchminer.base import Miner, Triplets, admissible, draw
from utilities.errors import UsageError
from utilities.pairwise import distance, negative_mask, positive_mask, unit


class DistanceWeighted(Miner):
    """Distance-weighted sampling (Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, section 3.2):
    the positive uniformly at random, the negative n with probability

        P(n | a) ~ 1 / q(d_an),   q(d) = d^(D-2) (1 - d^2 / 4)^((D-3)/2)

    where q is the density of distances between random points of the unit sphere in D dimensions. Distances are those
    of the normalised rows. Smaller ones count as lower_cutoff; negatives with d >= upper_cutoff are not drawn. An
    anchor whose negatives are all beyond it draws any of them uniformly, as in the authors' code. One triplet an
    anchor. Deviation: at d = 2, where 1 / q is infinite, 1 - d^2/4 counts as 1e-8.
    """

    def __init__(self, seed: int = 0, lower_cutoff: float = 0.5, upper_cutoff: float = 1.4):
        super().__init__(seed)
        if not 0 < lower_cutoff < upper_cutoff:
            raise UsageError(f"--miner_distance_lower_cutoff {lower_cutoff} must be above 0 and below "
                             f"--miner_distance_upper_cutoff {upper_cutoff}.")
        self.lower_cutoff, self.upper_cutoff = lower_cutoff, upper_cutoff

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D), label (N,) -> Triplets."""
        d = distance(unit(embedding), anchors)                                     # (A, N)
        positive, negative = positive_mask(label, anchors), negative_mask(label, anchors)  # (A, N) each
        near = negative & (d < self.upper_cutoff)
        none_near = ~near.any(-1, keepdim=True)                                    # (A, 1)
        logit = self.log_inverse_density(d, embedding.shape[-1]).masked_fill(none_near, 0)
        chosen = draw(torch.where(none_near, negative, near), generator, logit)    # (A,)
        keep = positive.any(-1) & negative.any(-1)                                 # (A,)
        return admissible(keep, draw(positive, generator), chosen)

    def log_inverse_density(self, d: Tensor, dim: int) -> Tensor:
        """-log q(d) for distances d (A, N) on the sphere in `dim` dimensions, finite for all of [0, 2]."""
        d = d.clamp(min=self.lower_cutoff)
        return (2 - dim) * d.log() + (3 - dim) / 2 * (1 - d.square() / 4).clamp(min=1e-8).log()  # (A, N)
