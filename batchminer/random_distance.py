"""Distance-weighted triplets of shuffled labels."""
import torch

from batchminer.distance import DistanceWeighted


class RandomDistance(DistanceWeighted):
    """Distance-weighted sampling on labels that are shuffled over the batch at every call: the
    control of DiVA's class-shared features (Milbich et al., "DiVA: Diverse Visual Feature
    Aggregation for Deep Metric Learning", ECCV 2020, the authors' `random` sharing).

    Positive and negative are of any class. Anchors whose shuffled class has one row are left out.
    """

    positive_class = "any"
    negative_class = "any"
    flag = "--miner_random_distance_"

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        order = torch.randperm(len(label), generator=generator, device=label.device)  # (N,)
        return super().mine(x, label[order], generator, anchors)
