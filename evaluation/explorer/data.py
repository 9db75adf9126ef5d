"""What the explorer knows of a set of test images: which it shows, their nearest neighbours, and the classes."""
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datasets.base import ImageList
from evaluation.metrics.confusions import confusions
from evaluation.metrics.per_class import class_sums
from evaluation.metrics.retrieval import relevant
from evaluation.report.map import Places, choose_images

NEIGHBOURS = 12     # shown of each image


class ClassLine(NamedTuple):
    """A class: its test images; those that are queries; those of them whose nearest image is of the class; and which
    classes the other ones' nearest images show, (class, number of queries), most first."""

    name: str
    images: int
    queries: int
    hits: int
    taken_for: list[tuple[int, int]]


class Explorer(NamedTuple):
    """Pictures and what is known of them. The first n of the P pictures are test images that can be opened; the others
    are only neighbours of these, and where there is a gallery apart, images of that one."""

    paths: list[Path]           # (P,)
    label: Tensor               # (P,) index of classes
    neighbour: Tensor           # (n, k) pictures, nearest first
    similarity: Tensor          # (n, k)
    classes: list[ClassLine]    # (C,)
    group: list[int]            # (C,) super-class of each class, or the class itself
    group_names: list[str]
    shown: Tensor               # (p,) pictures in the map
    point: Tensor               # (p, 2) where they lie in it
    drawn: list[int]            # groups that embedding.png shows, ascending
    total: int                  # test images, shown or not
    gallery: int | None         # images in the gallery apart

    @property
    def recall(self) -> float:
        """R@1 over all queries; not a number where nothing can be found."""
        queries = sum(line.queries for line in self.classes)
        return sum(line.hits for line in self.classes) / queries if queries else float("nan")


def explore(similarity: Tensor, index: Tensor, images: ImageList, *, limit: int, gallery: ImageList | None = None,
            places: Places | None = None) -> Explorer:
    """What the page shows of all test images or, where there are more than `limit`, of as many, chosen evenly over the
    classes. Every image that is a neighbour of one of them is shown too. The numbers of the classes are over all.

    similarity, index (N, k): the nearest other rows of every row, in the order of `images`, or with a gallery its
    nearest rows. places: the map of the same test images; of its points, those that can be opened are shown.
    """
    similarity, index, label = similarity.cpu(), index.cpu(), torch.tensor(images.labels)
    among = images if gallery is None else gallery
    there = torch.tensor(among.labels)                                             # (G,)
    row = choose_images(label, limit)                                        # (n,)
    number, besides = _numbered(row, index[row], len(there), apart=gallery is not None)
    chosen = [images.paths[i] for i in row.tolist()]
    places = places or Places(row[:0], torch.empty(0, 2))
    known = torch.isin(places.row, row)                                            # (p,)
    group = images.super_labels or list(range(len(images.class_names)))
    return Explorer([*chosen, *(among.paths[i] for i in besides.tolist())], torch.cat([label[row], there[besides]]),
                    number[index[row]], similarity[row], class_lines(index[:, 0], images, gallery), group,
                    images.super_names or images.class_names, torch.searchsorted(row, places.row[known]),
                    places.point[known], sorted({group[c] for c in label[places.row].tolist()}), len(label),
                    None if gallery is None else len(there))


def _numbered(row: Tensor, found: Tensor, size: int, *, apart: bool) -> tuple[Tensor, Tensor]:
    """The picture of each row that is searched, (G,), -1 where it has none; and the rows that get one only because they
    were found, (m,), ascending. row (n,): those that can be opened, unless the gallery is apart from them."""
    number = torch.full((size,), -1)
    if not apart:
        number[row] = torch.arange(len(row))
    besides = found.unique()
    besides = besides[number[besides] < 0]                                         # (m,)
    number[besides] = len(row) + torch.arange(len(besides))
    return number, besides


def class_lines(nearest: Tensor, images: ImageList, gallery: ImageList | None) -> list[ClassLine]:
    """A line for each class, in their order. nearest (N,): the nearest row of each test image."""
    label, size = torch.tensor(images.labels), len(images.class_names)
    there = None if gallery is None else torch.tensor(gallery.labels)              # (G,)
    query = relevant(label, there) > 0                                             # (N,)
    hit = (label if there is None else there)[nearest] == label                    # (N,)
    sums = torch.zeros(2, size, dtype=torch.long)                                  # hits and queries of each class
    sums[:, label.unique()] = torch.stack(class_sums(hit, query, label)).long()
    taken_for = _taken_for(nearest, label, size, there)
    return [ClassLine(name, *numbers, taken_for[c]) for c, (name, *numbers) in enumerate(zip(
        images.class_names, torch.bincount(label, minlength=size).tolist(), sums[1].tolist(), sums[0].tolist()))]


def _taken_for(nearest: Tensor, label: Tensor, size: int, there: Tensor | None) -> Sequence[list[tuple[int, int]]]:
    """For each class the classes that its queries were taken for and how many of them, most first."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    for pair in confusions(nearest, label, [str(c) for c in range(size)], there):  # names may occur twice, numbers not
        found[int(pair.name)].append((int(pair.taken_for), pair.count))
    return found
