"""Random triplets."""
from torch import Tensor

from batchminer.base import Miner, Triplets, admissible, draw
from utilities.pairwise import negative_mask, positive_mask


class RandomTriplets(Miner):
    """For each anchor with a positive and a negative, one of each, uniformly at random; one triplet an anchor."""

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D) is not read, label (N,) -> Triplets."""
        positive, negative = positive_mask(label, anchors), negative_mask(label, anchors)  # (A, N) each
        keep = positive.any(-1) & negative.any(-1)                                 # (A,)
        return admissible(keep, draw(positive, generator), draw(negative, generator))
