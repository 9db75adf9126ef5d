"""gallery.png: queries with their nearest test images, hits and misses marked."""
from typing import NamedTuple

import torch
from torch import Tensor

from datasets.base import ImageList
from evaluation.metrics.retrieval import relevant
from evaluation.report.canvas import CELL, Canvas
from evaluation.report.thumbnails import in_square, load_image, short_name
from utilities.text import counted

SHOWN = 8  # neighbours of a query
NUMBER = 6  # queries of each kind


class Queries(NamedTuple):
    """Which rows the gallery shows; (number,) indices each."""

    random: Tensor
    worst: Tensor


def choose_queries(
    neighbours: Tensor,
    labels: Tensor,
    number: int,
    seed: int = 0,
    gallery_labels: Tensor | None = None,
) -> Queries:
    """Some queries at random, and those whose first hit comes latest, fewest hits first.

    neighbours (N, k): nearest other rows of every row, labels (N,); with gallery_labels (G,):
    nearest rows of the gallery. Rows with nothing to find are never chosen. Equally bad queries are
    in random order, by `seed` alone.
    """
    others = labels if gallery_labels is None else gallery_labels
    query = (relevant(labels, gallery_labels) > 0).nonzero()[:, 0].cpu()  # (Q,)
    order = query[torch.randperm(len(query), generator=torch.Generator().manual_seed(seed))]
    # backwards, so that queries that are all equally good do not stand under both headings
    last = order.flip(0)
    hit = (others[neighbours] == labels[:, None]).cpu()[last].long()  # (Q, k)
    k = hit.shape[1]
    first = torch.where(hit.any(1), hit.argmax(1), k)  # (Q,) rank of the first hit, from 0
    badness = first * (k + 1) + k - hit.sum(1)  # (Q,)
    worst = badness.sort(descending=True, stable=True).indices
    return Queries(order[:number], last[worst][:number])


def draw_gallery(
    similarities: Tensor,
    neighbours: Tensor,
    images: ImageList,
    path,
    *,
    longest: int,
    gallery: ImageList | None = None,
    queries: Queries | None = None,
    seed: int = 0,
) -> None:
    """Write the picture: one row a query, first the query itself, then its k nearest images.

    similarities, neighbours (N, k): the nearest other rows of every row, in the order of `images`,
    or with a gallery its nearest rows. queries: which rows; NUMBER of each kind where none are
    given. Images are reduced to at most `longest` pixels, so that one sees the detail that the
    network sees. A hit has a solid green frame and a check, a miss a dashed red one and a cross.
    """
    neighbours = neighbours.cpu()
    labels = torch.as_tensor(images.labels)  # (N,)
    gallery_labels = None if gallery is None else torch.as_tensor(gallery.labels)  # (G,)
    if queries is None:
        queries = choose_queries(neighbours, labels, NUMBER, seed, gallery_labels)
    results = gallery or images
    headline = _headline(neighbours, labels, gallery_labels)
    canvas = Canvas(neighbours.shape[1], [len(rows) for rows in queries], headline)
    headings = ("Random queries", "Worst queries: the first hit comes latest")
    for heading, rows in zip(headings, queries):
        canvas.heading(heading)
        for i in rows.tolist():
            canvas.query(*_shown(images, i, longest))
            for j, score in zip(neighbours[i].tolist(), similarities[i].tolist()):
                hit = results.labels[j] == images.labels[i]
                canvas.result(*_shown(results, j, longest), score, hit)
            canvas.next_row()
    canvas.save(path)


def _shown(images: ImageList, i: int, longest: int) -> tuple:
    """Image i in a square, (CELL, CELL, 3), and the name of its class."""
    square = in_square(load_image(images.paths[i], longest), CELL)
    return square, short_name(images.class_names[images.labels[i]])


def _headline(neighbours: Tensor, labels: Tensor, gallery_labels: Tensor | None) -> str:
    """R@1 over all queries, and of how many."""
    query = relevant(labels, gallery_labels) > 0  # (N,)
    others = labels if gallery_labels is None else gallery_labels
    searched = counted(len(others), "test image" if gallery_labels is None else "gallery image")
    if not query.any():
        return f"Nearest neighbours in {searched} (no query has anything to find)"
    recall = (others[neighbours[:, 0]] == labels)[query].double().mean().item()
    return f"R@1 {100 * recall:.1f} %   {counted(int(query.sum()), 'query')} in {searched}"
