"""Random triplets."""
from torch import Tensor

from batchminer.base import ClassBlocks, Miner, Triplets, admissible, below


class RandomTriplets(Miner):
    """For each anchor with a positive and a negative, one of each, uniformly at random; one triplet an anchor."""

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        negative = blocks.negative(below(blocks.negatives, generator))  # (A,)
        keep = (blocks.positives > 0) & (blocks.negatives > 0)  # (A,)
        return admissible(keep, blocks.draw_positive(generator), negative)
