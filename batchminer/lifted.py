"""Every positive pair."""
import torch
from torch import Tensor

from batchminer.all_triplets import combinations
from batchminer.base import ClassBlocks, Miner, Triplets, below


class Lifted(Miner):
    """Every ordered pair (a, p) of two rows of one class, as lifted structure compares them (Oh Song et al., "Deep
    Metric Learning via Lifted Structured Feature Embedding", CVPR 2016).

    There, and in the base framework, a pair comes with all negatives of the anchor; a triplet holds one: uniform over
    them. Several triplets an anchor.
    """

    one_per_anchor = False

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D) is not read, label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        number = blocks.positives * (blocks.negatives > 0)  # (A,) pairs of each anchor
        anchor, k, _ = combinations(number, torch.ones_like(number), None, generator)  # (T,) each
        negative = blocks.negative(below(blocks.negatives[anchor], generator), anchor)  # (T,)
        return Triplets(anchor, blocks.positive(k, anchor), negative)
