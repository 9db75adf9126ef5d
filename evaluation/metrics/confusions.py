"""Which classes the embedding mixes up: of whose images the nearest one shows another class."""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.metrics.retrieval import relevant
from utilities.text import counted


class Confusion(NamedTuple):
    """`count` of the `queries` images of a class have one of class `taken_for` as their nearest;
    share = count / queries."""

    name: str
    taken_for: str
    count: int
    queries: int
    share: float

    def __str__(self) -> str:
        return (f"{self.count} of {counted(self.queries, 'image')} of {self.name} are nearest to one of "
                f"{self.taken_for}.")


def confusions(nearest: Tensor, label: Tensor, class_names: Sequence[str],
               gallery_label: Tensor | None = None) -> list[Confusion]:
    """The pairs of classes that occur: most images first, then by share, then by class.

    nearest (N,): the nearest other row of each row, or with gallery_label (G,) the nearest row of
    the gallery; label (N,) and gallery_label index class_names. A query counts under (its class,
    class of its nearest image) where the two differ. Rows with nothing to find are no queries, but
    others may be taken for their class. The counts of all pairs add up to (1 - R@1) of the queries.
    """
    searched = label if gallery_label is None else gallery_label
    taken = searched[nearest].cpu()  # (N,)
    label = label.cpu()
    query = relevant(label, gallery_label) > 0  # (N,)
    queries = label[query].bincount(minlength=len(class_names))  # (C,)
    wrong = query & (taken != label)
    both = torch.stack([label, taken])[:, wrong]
    pairs, count = both.unique(dim=1, return_counts=True)  # (2, P), (P,)
    of = queries[pairs[0]]
    share = count.double() / of
    columns = torch.stack([*pairs, count, of]).T.tolist()
    found = []
    for (own, other, *numbers), part in zip(columns, share.tolist()):
        found.append(Confusion(class_names[own], class_names[other], *numbers, part))
    # the pairs stand in the order of the classes
    return sorted(found, key=lambda pair: (-pair.count, -pair.share))
