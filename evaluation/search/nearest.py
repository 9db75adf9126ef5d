"""The nearest images of a set, ranked by the code that the evaluation uses."""
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.ranking import add_neighbours, nearest, searched
from evaluation.search.embedded_set import EmbeddedSet
from utilities.errors import UsageError
from utilities.labels import same_name
from utilities.ranges import positive_int
from utilities.text import counted


class Hit(NamedTuple):
    """An image that was found. right: whether it is of the query's class, None if unknown.

    listed: its path in labels.csv; row: of the set.
    """

    path: Path
    listed: str
    class_name: str
    similarity: float
    right: bool | None
    row: int


class SearchResult(NamedTuple):
    """A query's file or None, its class or None, and its hits, nearest first."""

    path: Path | None
    class_name: str | None
    hits: list[Hit]


def find(gallery: EmbeddedSet, query: Tensor, paths: Sequence[Path | None], k: int,
         query_class: str | None = None,
         min_similarity: float | None = None) -> list[SearchResult]:
    """The k nearest images of each query (Q, D), by cosine, ties by the lower row.

    A query that is in the gallery does not find itself. Where the gallery has context, a query is
    given that of its nearest other rows in the gallery as they are. query_class: the class of all queries;
    None: known only of those in the gallery. min_similarity: hits of less are left out; None: all
    k are hits. paths: of the queries, None for one that is no file. Raises UsageError where D or k
    does not fit.
    """
    if query_class is not None:
        query_class = _known_class(gallery, query_class)
    least = -math.inf if min_similarity is None else min_similarity
    own_rows = [None if path is None else gallery.row_of(path) for path in paths]
    extra = any(row is not None for row in own_rows)
    _check(gallery, query, k, len(gallery.rows) - extra)
    k = int(k)
    # faiss would copy the gallery first, which takes longer than the search; the ranking is equal
    stored = gallery.rows
    if gallery.context:
        neighbours, power, augmented = gallery.context
        itself = torch.tensor([-1 if row is None else row for row in own_rows])
        query = add_neighbours(query, stored, neighbours, power, itself=itself, backend="torch")
        stored = augmented
    rows = searched(query, stored, cosine=True)
    similarity, index = nearest(*rows, k + extra, backend="torch")
    results = []
    for path, own, scores, rows in zip(paths, own_rows, similarity.tolist(), index.tolist()):
        in_gallery = None if own is None else gallery.class_of(own)
        class_name = in_gallery if query_class is None else query_class
        pairs = [(row, score) for row, score in zip(rows, scores) if row != own]
        hits = [_hit(gallery, row, score, class_name)
                for row, score in pairs[:k] if score >= least]
        results.append(SearchResult(path, class_name, hits))
    return results


def _check(gallery: EmbeddedSet, query: Tensor, k: int, most: int) -> None:
    """A UsageError where the dimensions or k do not fit; most: images that a query can find."""
    own = query.shape[1]
    expected = gallery.rows.shape[1]
    if own != expected:
        raise UsageError(f"The queries have {counted(own, 'dimension')} and the embeddings {expected}: "
                         "give the checkpoint that made the embeddings.")
    if not most:
        raise UsageError(f"{gallery.file} holds the query alone; embed more images.")
    if not positive_int.has(k):
        raise UsageError(f"--k: {positive_int.problem(k)}.")
    if k > most:
        raise UsageError(f"--k {k}: a query can find at most {counted(most, 'image')} here; ask for 1 to "
                         f"{most}.")


def _known_class(gallery: EmbeddedSet, name: str) -> str:
    """The class as the gallery spells it; a UsageError where the gallery has no such class."""
    names = sorted({gallery.class_of(row) for row in range(len(gallery.rows))})
    spelled = {same_name(own): own for own in names} | {own: own for own in names}
    found = spelled.get(name, spelled.get(same_name(name)))
    if found is None:
        raise UsageError(f"--query_class {name}: no image of {gallery.file} is of this class; give "
                         "the class as its labels.csv spells it, or leave the flag out.")
    return found


def _hit(gallery: EmbeddedSet, row: int, similarity: float, query_class: str | None) -> Hit:
    name = gallery.class_of(row)
    right = None if query_class is None else name == query_class
    return Hit(gallery.image_of(row), gallery.lines[row]["path"], name, similarity, right, row)
