"""Random triplets within a class."""
from batchminer.base import ClassBlocks, Miner, admissible


class IntraRandom(Miner):
    """DiVA's intra-class triplets (Milbich et al., "DiVA: Diverse Visual Feature Aggregation for
    Deep Metric Learning", ECCV 2020): anchor, positive and negative are three rows of one class, so
    the label rule of triplets is broken on purpose.

    For each anchor an ordered pair of two other rows of its class, uniformly; none in classes of
    fewer than three. Deviation: the authors' code draws classes, and the three rows with
    replacement.
    """

    negative_class = "same"

    def mine(self, x, label, generator, anchors):
        """x (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        return admissible(blocks.positives > 1, *blocks.draw_two_positives(generator))
