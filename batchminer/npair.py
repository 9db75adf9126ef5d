"""One pair a class."""
import torch
from torch import Tensor

from batchminer.base import ClassBlocks, Miner, Triplets, below


class NPair(Miner):
    """N-pair batches (Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016,
    section 3.2): one pair (a, p) of every class of the batch with two rows or more, uniformly; its negatives are the
    positives of the other classes' pairs.

    A triplet holds one negative: uniform over these. One triplet a class. Deviation: the base framework pairs every row
    of the batch and lists all rows of other classes.
    """

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D) is not read, label (N,) -> Triplets, of as many rows as there are pairs; none for one."""
        among, blocks = ClassBlocks(label[:anchors]), ClassBlocks(label, anchors)
        head = among.order[among.first] == among.row  # (A,) one row of every class
        head = (head & (blocks.positives > 0)).nonzero().squeeze(-1)  # (C,)
        head = head if len(head) > 1 else head[:0]                                 # one pair has no negative
        anchor = among.order[among.first[head] + below(among.positives[head] + 1, generator)]  # (C,)
        positive = blocks.draw_positive(generator)[anchor]  # (C,)
        turn = torch.randint(1, max(2, len(head)), head.shape, generator=generator, device=label.device)  # (C,)
        return Triplets(anchor, positive, positive[(among.row[:len(head)] + turn) % max(1, len(head))])
