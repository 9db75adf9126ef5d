"""The statistics of a batch's pairs that the policy sees."""
import torch
from torch import Tensor

from criteria.method.pairs import Pairs
from utilities.pairwise import average_precision, masked_mean


def batch_statistics(pairs: Pairs) -> Tensor:
    """Four numbers of the whole batch, (1, 4).

    Mean AP, mean positive similarity, mean negative similarity, length of the mean embedding.
    """
    ap = average_precision(pairs.similarity, pairs.positive)  # (B,)
    numbers = [
        ap.mean(),
        masked_mean(pairs.similarity, pairs.positive),
        masked_mean(pairs.similarity, pairs.negative),
        pairs.rows.mean(0).norm(),
    ]
    return torch.stack(numbers)[None]  # (1, 4)


def anchor_statistics(pairs: Pairs) -> Tensor:
    """Eight numbers of each anchor, standardised over the batch, (B, 8).

    Mean, minimum and maximum positive similarity; mean and maximum negative similarity; hardest negative minus hardest
    positive; AP; share of negatives above the hardest positive.
    """
    s = pairs.similarity
    positives = s.masked_fill(~pairs.positive, torch.inf)  # (B, B)
    easiest = s.masked_fill(~pairs.positive, -torch.inf).amax(-1).nan_to_num(neginf=0.0)  # (B,)
    hardest = positives.amin(-1).nan_to_num(posinf=0.0)
    hardest_negative = s.masked_fill(~pairs.negative, -torch.inf).amax(-1).nan_to_num(neginf=0.0)
    is_above = (s > hardest[:, None]).to(s.dtype)  # (B, B)
    columns = [
        masked_mean(s, pairs.positive, -1),
        hardest,
        easiest,
        masked_mean(s, pairs.negative, -1),
        hardest_negative,
        hardest_negative - hardest,
        average_precision(s, pairs.positive),
        masked_mean(is_above, pairs.negative, -1),
    ]
    rows = torch.stack(columns, -1)  # (B, 8)
    # of a single row the deviation is zero, and not undefined
    deviation = rows.std(0, correction=min(1, len(rows) - 1))
    return (rows - rows.mean(0)) / deviation.clamp(min=1e-6)
