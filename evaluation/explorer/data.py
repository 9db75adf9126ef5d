"""What the explorer knows of test images: which it shows, their neighbours, and the classes."""
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datasets.base import ImageList
from evaluation.metrics.confusions import confusions
from evaluation.metrics.retrieval import relevant
from evaluation.report.places import Places, choose_images

NEIGHBOURS = 12  # shown of each image


class ClassLine(NamedTuple):
    """A class: its test images, how many are queries, and how many queries are hits.

    A hit has its nearest image in the class. taken_for: the classes of the other queries' nearest
    images, (class, number of queries), most first.
    """

    name: str
    images: int
    queries: int
    hits: int
    taken_for: list[tuple[int, int]]


class Explorer(NamedTuple):
    """Pictures and what is known of them.

    The first n of the P pictures are test images that can be opened. The others are only neighbours
    of these; with a gallery they are its images.
    """

    paths: list[Path]  # (P,)
    label: Tensor  # (P,) index of classes
    neighbour: Tensor  # (n, k) pictures, nearest first
    similarity: Tensor  # (n, k)
    classes: list[ClassLine]  # (C,)
    group: list[int]  # (C,) super-class of each class, or the class itself
    group_names: list[str]
    shown: Tensor  # (p,) pictures in the map
    point: Tensor  # (p, 2) where they lie in it
    drawn: list[int]  # groups that embedding.png shows, ascending
    total: int  # test images, shown or not
    gallery: int | None  # images in the gallery


def explore(
    similarity: Tensor,
    index: Tensor,
    images: ImageList,
    *,
    limit: int,
    gallery: ImageList | None = None,
    places: Places | None = None,
) -> Explorer:
    """What the page shows of all test images, or of `limit` of them: equally many of every class.

    Every neighbour of a shown image is shown too. The numbers of the classes are over all test
    images. similarity, index (N, k): the nearest other rows of every row, in the order of `images`,
    or with a gallery its nearest rows. places: the map of the same test images; of its points,
    those that can be opened are shown.
    """
    index = index.cpu()
    label = torch.tensor(images.labels)  # (N,)
    results = gallery or images
    row = choose_images(label, limit)  # (n,)
    nearest = index[row]  # (n, k)
    number = torch.full((len(results.labels),), -1)
    if gallery is None:
        number[row] = torch.arange(len(row))
    added = number_neighbours(number, nearest, len(row))
    places = places or Places(row[:0], torch.empty(0, 2))
    in_map = torch.isin(places.row, row)  # (points,)
    group = images.super_labels or list(range(len(images.class_names)))
    paths = [images.paths[i] for i in row.tolist()]
    return Explorer(
        paths=paths + [results.paths[i] for i in added.tolist()],
        label=torch.cat([label[row], torch.tensor(results.labels)[added]]),
        neighbour=number[nearest],
        similarity=similarity.cpu()[row],
        classes=class_lines(index[:, 0], images, gallery),
        group=group,
        group_names=images.super_names or images.class_names,
        shown=torch.searchsorted(row, places.row[in_map]),
        point=places.point[in_map],
        drawn=sorted({group[c] for c in label[places.row].tolist()}),
        total=len(label),
        gallery=None if gallery is None else len(gallery.labels),
    )


def number_neighbours(number: Tensor, nearest: Tensor, start: int) -> Tensor:
    """Number the neighbours that are no picture yet, from `start`; returns their rows, (m,).

    number (G,): the picture of each row that is searched, -1 where it has none; written to.
    """
    rows = nearest.unique()
    rows = rows[number[rows] < 0]
    number[rows] = start + torch.arange(len(rows))
    return rows


def class_lines(nearest: Tensor, images: ImageList, gallery: ImageList | None) -> list[ClassLine]:
    """A line for each class, in their order. nearest (N,): the nearest row of each test image."""
    size = len(images.class_names)
    label = torch.tensor(images.labels)  # (N,)
    gallery_label = None if gallery is None else torch.tensor(gallery.labels)  # (G,)
    is_query = relevant(label, gallery_label) > 0  # (N,)
    results = label if gallery is None else gallery_label
    is_hit = is_query & (results[nearest] == label)  # (N,)
    taken_for = [[] for _ in range(size)]
    # by number, as names may occur twice
    for pair in confusions(nearest, label, range(size), gallery_label):
        taken_for[pair.name].append((pair.taken_for, pair.count))
    counted = (label, label[is_query], label[is_hit])
    counts = [torch.bincount(part, minlength=size).tolist() for part in counted]
    return [ClassLine(*line) for line in zip(images.class_names, *counts, taken_for)]
