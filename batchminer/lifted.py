"""Every positive pair."""
import torch

from batchminer.all_triplets import combinations
from batchminer.base import ClassBlocks, Miner, Triplets, below


class Lifted(Miner):
    """Every ordered pair (a, p) of two rows of one class, as lifted structure compares them (Oh
    Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016).

    Deviation: a triplet holds one negative, drawn uniformly; in the paper and in the base framework
    a pair comes with all negatives of the anchor.
    """

    one_per_anchor = False

    def mine(self, x, label, generator, anchors):
        """x (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        pairs = blocks.positives * (blocks.negatives > 0)  # (A,)
        one = torch.ones_like(pairs)
        anchor, i, _ = combinations(pairs, one, None, generator)  # (T,) each
        j = below(blocks.negatives[anchor], generator)  # (T,)
        positive = blocks.positive(i, anchor)  # (T,)
        negative = blocks.negative(j, anchor)  # (T,)
        return Triplets(anchor, positive, negative)
