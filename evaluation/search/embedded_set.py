"""A set of embeddings on the disk, and what is nearest in it to images from anywhere."""
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evaluation.embed import embedded
from evaluation.embed.embedder import Embedder, one_set, open_embedder
from evaluation.embed.files import DESCRIPTION, EMBEDDINGS, LABELS, read_description
from evaluation.score import read_embeddings, read_table
from evaluation.search.index import DESCRIPTION as OF_INDEX
from evaluation.search.index import KINDS, Index
from utilities.digest import sha256
from utilities.errors import RunError, UsageError


class Hit(NamedTuple):
    """One found image: its file, as the table lists it, class and similarity; right is None where the query's class is
    unknown."""

    path: Path
    listed: str
    name: str
    similarity: float
    right: bool | None


class Found(NamedTuple):
    """A query's file, its class or None, and what was found, best first."""

    path: Path
    name: str | None
    hits: list[Hit]


class EmbeddedSet(NamedTuple):
    """rows (N, D) from `file`, whose SHA-256 is `digest`; a line of the table for each; what embeddings.json says; and
    the folder that the paths of the images start from."""

    file: Path
    digest: str
    rows: Tensor
    lines: list[dict[str, str]]
    made: dict[str, Any]
    root: Path | None

    def name(self, row: int) -> str:
        """The class of a row."""
        return self.lines[row].get("class") or self.lines[row]["label"]

    def image(self, row: int) -> Path:
        """The file of a row."""
        return Path(self.root or "", self.lines[row]["path"])


def locate(text: str) -> tuple[Path, str | None]:
    """The file of the embeddings, and the kind of the index where the folder of one was given."""
    path = Path(text)
    if path.is_file() and path.suffix == ".npy":
        return path, None
    if (path / EMBEDDINGS).is_file():
        return path / EMBEDDINGS, None
    kind = path.name.removeprefix("index-")
    if (path / OF_INDEX).is_file() and kind in KINDS:
        return path.absolute().parent / EMBEDDINGS, kind
    raise UsageError(f"{text} holds no embeddings: give a folder that evaluation.embed wrote, its {EMBEDDINGS}, or an "
                     "index in it.")


def read_set(file: Path, images: str | None) -> EmbeddedSet:
    """The embeddings with their table."""
    rows = read_embeddings(str(file))
    if not len(rows):
        raise UsageError(f"{file} holds no rows; embed some images.")
    table, made = file.parent / LABELS, read_description(file.parent)
    lines = read_table(str(table), len(rows))
    if not all(line.get("path") for line in lines):
        raise UsageError(f"{table}: there is no column path, or it is empty in some line; search needs it to name what "
                         "it finds.")
    digest, root = sha256(file), images or made.get("images")
    if made and made["embeddings"] != digest:
        raise RunError(f"{file} is not the file that {DESCRIPTION} beside it describes; embed the images again, or "
                       f"remove {DESCRIPTION} and pass --checkpoint.")
    return EmbeddedSet(file, digest, rows, lines, made, None if root is None else Path(root))


def network_of(found: EmbeddedSet, given: str | None, device: torch.device) -> Embedder:
    """The network for the queries: that which made the embeddings, or the one given instead, with a note where the two
    differ."""
    told = found.made.get("checkpoint", {})
    path = given or told.get("path")
    if path is None:
        raise UsageError(f"{found.file.parent} does not say which network made its embeddings: pass --checkpoint.")
    if given is None and not Path(path).exists():
        raise UsageError(f"{path}, which made the embeddings, is not there any more; pass --checkpoint with its new "
                         "place.")
    embedder = open_embedder(path, device, geometry=found.made.get("preprocessing"), bs=1,
                             amp=found.made.get("precision"))
    if told and not set(embedder.digests) & set(told["sha256"]):
        if given is None:
            raise UsageError(f"{path} has changed since it made the embeddings; embed the images again, or pass "
                             f"--checkpoint {path} to take it as it is.")
        print(f"note: {given} is not the checkpoint that made the embeddings (their SHA-256 differ).", file=sys.stderr)
    return embedder


def embed_queries(embedder: Embedder, paths: list[Path]) -> Tensor:
    """One row a query, (Q, D), each embedded alone, so that it does not depend on the others."""
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path}: there is no such image.")
    loader = embedder.loader(one_set(paths))
    return torch.cat([rows for rows, *_ in embedded(embedder.network, loader, embedder.device, amp=embedder.amp)])


def own_rows(found: EmbeddedSet, paths: list[Path]) -> list[int | None]:
    """For each query the row of the embeddings that is the same file, or None."""
    if found.root is None:
        return [None] * len(paths)
    row_of = {line["path"]: row for row, line in enumerate(found.lines)}
    root = os.path.realpath(found.root)
    return [row_of.get(Path(os.path.relpath(os.path.realpath(path), root)).as_posix()) for path in paths]


def find(found: EmbeddedSet, index: Index, query: Tensor, paths: list[Path], k: int, name: str | None) -> list[Found]:
    """The k nearest images of each query (Q, D); one that is itself among the embeddings does not find itself. name:
    the class of all queries, None: known only of those among the embeddings."""
    own = own_rows(found, paths)
    free = len(found.rows) - any(row is not None for row in own)
    if k > free:
        raise UsageError(f"--k {k}: a query can find at most {free} images here; ask for that many or fewer.")
    score, near = index.search(query, k + (free < len(found.rows)))
    answers = []
    for path, itself, scores, rows in zip(paths, own, score.tolist(), near.tolist()):
        class_name = name or (None if itself is None else found.name(itself))
        hits = [Hit(found.image(row), found.lines[row]["path"], found.name(row), value,
                    None if class_name is None else found.name(row) == class_name)
                for row, value in zip(rows, scores) if row not in (itself, -1)]
        answers.append(Found(path, class_name, hits[:k]))
    return answers
