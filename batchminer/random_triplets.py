"""Random triplets."""
from batchminer.base import ClassBlocks, Miner, admissible, below


class RandomTriplets(Miner):
    """For each anchor a positive and a negative, uniformly at random."""

    def mine(self, x, label, generator, anchors):
        """x (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        negative = blocks.negative(below(blocks.negatives, generator))  # (A,)
        positive = blocks.draw_positive(generator)  # (A,)
        keep = (blocks.positives > 0) & (blocks.negatives > 0)  # (A,)
        return admissible(keep, positive, negative)
