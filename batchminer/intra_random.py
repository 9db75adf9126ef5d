"""Random triplets within a class."""
from batchminer.base import ClassBlocks, Miner, admissible


class IntraRandom(Miner):
    """DiVA's intra-class triplets (Milbich et al., "DiVA: Diverse Visual Feature Aggregation for
    Deep Metric Learning", ECCV 2020): for each anchor two other rows of its own class as positive
    and negative, uniformly.

    Classes of fewer than three rows have none. Deviation: the authors' code draws classes, and the
    three rows with replacement.
    """

    negative_class = "same"

    def mine(self, x, label, generator, anchors):
        """x (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        return admissible(blocks.positives > 1, *blocks.draw_two_positives(generator))
