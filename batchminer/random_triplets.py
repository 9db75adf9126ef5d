"""Random triplets."""
from torch import Tensor

from batchminer.base import Miner, Triplets, admissible, draw
from utilities.pairwise import negative_mask, positive_mask


class RandomTriplets(Miner):
    """For each anchor with a positive and a negative, one of each, uniformly at random; one triplet an anchor."""

    def mine(self, embedding: Tensor, label: Tensor, generator) -> Triplets:
        """embedding (B, D) is not read, label (B,) -> Triplets."""
        positive, negative = positive_mask(label), negative_mask(label)            # (B, B) each
        keep = positive.any(-1) & negative.any(-1)                                 # (B,)
        return admissible(keep, draw(positive, generator), draw(negative, generator))
