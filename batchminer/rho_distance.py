"""Distance-weighted negatives, some of which are exchanged for rows of the anchor's own class."""
import torch

from batchminer.base import ClassBlocks, admissible
from batchminer.distance import DistanceWeighted
from utilities.ranges import Probability


class RhoDistance(DistanceWeighted):
    """Spectrum regularisation (Roth et al., "Revisiting Training Strategies and Generalization
    Performance in Deep Metric Learning", ICML 2020, rho-regularisation): distance-weighted triplets
    in which, with probability cp, the negative is exchanged for a row of the anchor's own class.

    That row is not the anchor, nor its positive unless the class has two rows. Deviations: the
    authors' code also makes the anchor its own positive in these tuples, which removes the pull; it
    ignores upper_cutoff.
    """

    cp: Probability = 0.2

    negative_class = "any"
    flag = "--miner_rho_distance_"

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        positive, same_class = blocks.draw_two_positives(generator)  # (A,) each
        negative, found = self.draw_negative(x, label, generator, anchors)  # (A,) each
        u = torch.rand(positive.shape, generator=generator, device=label.device)  # (A,)
        negative = torch.where(u < self.cp, same_class, negative)  # (A,)
        return admissible((blocks.positives > 0) & found, positive, negative)
