"""Which classes the embedding mixes up: of whose images the nearest other image shows another class, and which."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.metrics.retrieval import relevant


class Confusion(NamedTuple):
    """`count` of the `queries` images of a class have one of class `taken_for` as their nearest; share = count /
    queries."""

    name: str
    taken_for: str
    count: int
    queries: int
    share: float

    def __str__(self) -> str:
        return f"{self.count} of {self.queries} images of {self.name} are nearest to one of {self.taken_for}."


def confusions(nearest: Tensor, label: Tensor, class_names: Sequence[str],
               gallery_label: Tensor | None = None) -> list[Confusion]:
    """The pairs of classes that occur, most images first, then by share, then in the order of the classes.

    nearest (N,): the nearest other row of each row, or with gallery_label (G,) the nearest row of the gallery; label
    (N,) and gallery_label index class_names. A query counts under (its class, class of its nearest image) where the
    two differ. Rows with nothing to find are no queries, but may be what others are taken for. The counts over all
    pairs add up to (1 - R@1) of the queries. Memory: O(N).
    """
    label, taken = label.cpu(), (label if gallery_label is None else gallery_label)[nearest].cpu()     # (N,), (N,)
    query = relevant(label, gallery_label) > 0                                     # (N,)
    queries = torch.bincount(label[query], minlength=len(class_names))             # (C,)
    pair, count = torch.stack([label, taken])[:, query & (taken != label)].unique(dim=1, return_counts=True)
    share = count.double() / queries[pair[0]]                                      # (P,)
    rows = zip(*pair.tolist(), count.tolist(), queries[pair[0]].tolist(), share.tolist())
    ordered = sorted(rows, key=lambda row: (-row[2], -row[4], row[0], row[1]))
    return [Confusion(class_names[own], class_names[other], *rest) for own, other, *rest in ordered]
