"""Semi-hard negatives: farther than the positive, but not far enough."""
from torch import Tensor

from batchminer.base import ClassBlocks, Miner, Triplets, admissible, draw
from utilities.pairwise import distance, negative_mask


class Semihard(Miner):
    """Semi-hard mining (Schroff et al., "FaceNet", CVPR 2015, section 3.2): the positive p uniformly at random, the
    negative uniformly among those with

        d_ap < d_an < d_ap + margin

    on the rows as given; one triplet an anchor. An anchor that has no such negative for its drawn positive is left
    out of this batch, since FaceNet defines no substitute (the base framework draws any negative). Deviation: Euclidean
    distances, where FaceNet compares squared ones; the order is the same, the margin is in units of distance.
    """

    def __init__(self, seed: int = 0, margin: float = 0.2):
        super().__init__(seed)
        self.margin = margin

    def mine(self, embedding: Tensor, label: Tensor, generator, anchors=None) -> Triplets:
        """embedding (N, D), label (N,) -> Triplets."""
        d, blocks = distance(embedding, anchors), ClassBlocks(label, anchors)  # (A, N)
        positive = blocks.draw_positive(generator)  # (A,)
        d_ap = d.gather(1, positive[:, None])  # (A, 1)
        band = negative_mask(label, anchors) & (d > d_ap) & (d < d_ap + self.margin)  # (A, N)
        negative, found = draw(band, generator)  # (A,) each
        return admissible((blocks.positives > 0) & found, positive, negative)
