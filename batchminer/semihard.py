"""Semi-hard negatives: farther than the positive, but not far enough."""
from batchminer.base import ClassBlocks, Miner, admissible, draw
from utilities.pairwise import distance, negative_mask
from utilities.ranges import Positive


class Semihard(Miner):
    """Semi-hard mining (Schroff et al., "FaceNet", CVPR 2015, section 3.2): the positive p
    uniformly at random, the negative uniformly among those with

        d_ap < d_an < d_ap + margin

    An anchor without such a negative for its drawn positive is left out; the base framework draws
    any negative. Deviation: the paper compares squared distances, so the margin here is in units of
    distance.
    """

    margin: Positive = 0.2

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        positive = blocks.draw_positive(generator)  # (A,)
        d = distance(x, anchors)  # (A, N)
        d_ap = d.gather(1, positive[:, None])  # (A, 1)
        band = (d > d_ap) & (d < d_ap + self.margin)  # (A, N)
        negative, found = draw(negative_mask(label, anchors) & band, generator)  # (A,) each
        return admissible((blocks.positives > 0) & found, positive, negative)
