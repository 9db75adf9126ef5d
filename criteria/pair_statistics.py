"""What the policy sees of a batch besides the relation's states: statistics of its pairs, which know the labels."""
import torch
from torch import Tensor

from utilities.pairwise import average_precision, negative_mask, positive_mask, similarity


def batch_statistics(z: Tensor, label: Tensor) -> Tensor:
    """Mean AP, mean positive and negative similarity, and length of the mean embedding of unit rows z, (1, 4)."""
    s, positive, negative = similarity(z), positive_mask(label), negative_mask(label)
    return torch.stack([average_precision(s, positive).mean(), _mean(s, positive), _mean(s, negative),
                        z.mean(0).norm()])[None]


def anchor_statistics(z: Tensor, label: Tensor) -> Tensor:
    """What each anchor's pairs look like, standardised over the batch, (B, 8).

    Mean, minimum and maximum positive similarity; mean and maximum negative similarity; hardest negative minus hardest
    positive; AP; share of negatives above the worst positive.
    """
    s, positive, negative = similarity(z), positive_mask(label), negative_mask(label)
    lowest = s.masked_fill(~positive, torch.inf).amin(-1).nan_to_num(posinf=0.0)   # (B,)
    highest = s.masked_fill(~positive, -torch.inf).amax(-1).nan_to_num(neginf=0.0)
    hardest = s.masked_fill(~negative, -torch.inf).amax(-1).nan_to_num(neginf=0.0)
    above = _mean((s > lowest[:, None]).to(s.dtype), negative, dim=-1)
    rows = torch.stack([_mean(s, positive, -1), lowest, highest, _mean(s, negative, -1), hardest, hardest - lowest,
                        average_precision(s, positive), above], -1)                # (B, 8)
    return (rows - rows.mean(0)) / rows.std(0).clamp(min=1e-6)


def _mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of x where mask is true; zero where it never is."""
    dims = tuple(range(x.ndim)) if dim is None else dim
    return (x * mask).sum(dims) / mask.sum(dims).clamp(min=1)


def pair_statistics(z: Tensor, label: Tensor) -> Tensor:
    """What each pair looks like to its anchor, from unit rows z, (B, B, 3); zero where an image meets itself.

    Similarity; similarity, and mean similarity of the two classes (how near their super-classes are), both standardised
    over the anchor's pairs of the same sign.
    """
    s, same = similarity(z), (label[:, None] == label).to(z.dtype)                 # (B, B)
    mean = same / same.sum(-1, keepdim=True)                                       # (B, B) over the own class
    between = mean @ s @ mean.T                                                    # (B, B)
    found = torch.zeros(*s.shape, 3, dtype=z.dtype, device=z.device)
    for mask in (positive_mask(label), negative_mask(label)):
        rows = torch.stack([s, _standardised(s, mask), _standardised(between, mask)], -1)
        found = torch.where(mask[..., None], rows, found)
    return found


def _standardised(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, B) minus its mean over the mask's entries of the row, divided by their spread."""
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    centred = (x - (x * mask).sum(-1, keepdim=True) / count) * mask
    return centred / (centred.square().sum(-1, keepdim=True) / count).sqrt().clamp(min=1e-6)
