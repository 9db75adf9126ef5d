"""One pair a class."""
import torch

from batchminer.base import ClassBlocks, Miner, Triplets, below


class NPair(Miner):
    """N-pair batches (Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective",
    NeurIPS 2016, section 3.2): one pair (a, p) of every class of the batch with two rows or more,
    uniformly; its negatives are the positives of the other classes' pairs.

    A triplet holds one of these negatives, drawn uniformly. Deviation: the base framework pairs
    every row of the batch and lists all rows of other classes.
    """

    def mine(self, x, label, generator, anchors):
        """x (N, D) is not read, label (N,) -> Triplets, one a pair; a single pair gives none."""
        blocks = ClassBlocks(label, anchors)
        batch = ClassBlocks(label[:anchors])
        # one row of every class that has a pair
        first = batch.order[batch.first] == batch.row  # (A,)
        first &= blocks.positives > 0
        row = first.nonzero().squeeze(-1)  # (C,)
        if len(row) == 1:
            row = row[:0]
        k = below(batch.positives[row] + 1, generator)  # (C,)
        anchor = batch.order[batch.first[row] + k]  # (C,)
        positive = blocks.draw_positive(generator)[anchor]  # (C,)
        # the positive of another pair
        classes = len(row)
        step = torch.randint(
            1, max(2, classes), row.shape, generator=generator, device=label.device
        )  # (C,)
        other = (batch.row[:classes] + step) % max(1, classes)  # (C,)
        return Triplets(anchor, positive, positive[other])
