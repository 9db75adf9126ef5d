"""Indexes for search, built once, kept beside the embeddings, and never read before it is clear who wrote them.

flat    exact: every row is compared. Its ranking is that of evaluation.ranking.neighbours; without faiss, that is used
        itself.
ivf     rows in `lists` groups by k-means; a search looks through the `probes` groups nearest to the query.
hnsw    a graph in which each row knows `links` others (Malkov & Yashunin, TPAMI 2020); built with `build` candidates at
        a time, searched with `search`.

ivf and hnsw are approximate: they may miss a neighbour, but what they find has its exact similarity.
"""
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evaluation.ranking.exact import rounding_error, row_blocks
from evaluation.ranking.neighbours import BACKENDS, MARGIN, check_finite, faiss_or_none
from evaluation.ranking.rescore import rescore
from utilities.device import full_precision
from utilities.errors import UsageError
from utilities.logger import write_json
from utilities.registry import lookup
from utilities.seal import is_sealed, seal

FILE, DESCRIPTION = "index.faiss", "index.json"
ROWS_A_LIST = 39     # at least so many rows a list, below which faiss warns that k-means has too few
LINKS, BUILD = 32, 80
BLOCK = 1024         # queries at a time


class Settings(NamedTuple):
    """How an index is built (lists, links, build; 0: as it was, a new one by `lists`, LINKS and BUILD) and how it is
    searched (probes, search)."""

    lists: int = 0
    links: int = 0
    build: int = 0
    probes: int = 16
    search: int = 64


class Index:
    """Rows (N, D) that can be searched; `index` is faiss's, None without faiss."""

    def __init__(self, kind: str, rows: Tensor, index: Any, settings: Settings):
        self.kind, self.rows, self.index, self.settings = kind, rows, index, settings
        self._candidates = BACKENDS["torch"](rows, 0, False) if index is None else self._by_faiss
        self._longest = rows[rows.norm(dim=1).argmax()][None]                      # (1, D)

    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k rows of largest inner product with each query (Q, D), best first: similarity (Q, k), index (Q, k).

        A UsageError where k or the dimension does not fit. An approximate index that finds fewer gives -1 for the rest.
        """
        size, dim = self.rows.shape
        if query.shape[1] != dim:
            raise UsageError(f"The queries have {query.shape[1]} dimensions and the embeddings {dim}: give the "
                             "checkpoint that made the embeddings.")
        if not 1 <= k <= size:
            raise UsageError(f"--k {k}: there are {size} embeddings to choose from; ask for 1 to {size}.")
        check_finite(query, "query")
        if self.kind != "flat":
            return self._candidates(query, k)
        wanted, steps = min(k + MARGIN, size), [(self._candidates, rounding_error(self._longest))]
        with torch.no_grad(), full_precision(query.device):
            parts = [rescore(rows, self.rows, steps, k, wanted, None) for _, rows in row_blocks(query, BLOCK, wanted)]
        return torch.cat([score for score, _ in parts]), torch.cat([index for _, index in parts])

    def _by_faiss(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        faiss_or_none().omp_set_num_threads(torch.get_num_threads())
        if self.kind == "ivf":
            self.index.nprobe = min(self.settings.probes, self.index.nlist)
        if self.kind == "hnsw":
            self.index.hnsw.efSearch = max(self.settings.search, k)
        score, found = self.index.search(query.numpy(), k)
        return torch.from_numpy(score), torch.from_numpy(found)


# --------------------------------------------------------------------------------------------------------- building


def _flat(rows: Tensor, settings: Settings):
    return faiss_or_none().IndexFlatIP(rows.shape[1])


def _ivf(rows: Tensor, settings: Settings):
    faiss = faiss_or_none()
    index = faiss.IndexIVFFlat(_flat(rows, settings), rows.shape[1], lists(len(rows), settings),
                               faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 1
    index.train(rows.numpy())
    return index


def _hnsw(rows: Tensor, settings: Settings):
    faiss = faiss_or_none()
    index = faiss.IndexHNSWFlat(rows.shape[1], settings.links or LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = settings.build or BUILD
    return index


KINDS: dict[str, Callable] = {"flat": _flat, "ivf": _ivf, "hnsw": _hnsw}


def lists(size: int, settings: Settings) -> int:
    """The number of groups of an ivf index."""
    return settings.lists or max(1, min(round(4 * math.sqrt(size)), size // ROWS_A_LIST))


def build(kind: str, rows: Tensor, settings: Settings) -> Index:
    """An index of rows (N, D); flat needs no faiss."""
    make = lookup(KINDS, kind, "index", "--index")
    faiss = faiss_or_none()
    if faiss is None and kind != "flat":
        raise UsageError(f"--index {kind} needs faiss: run pip install faiss-cpu, or leave --index out.")
    check_finite(rows, "stored")
    if faiss is None:
        return Index(kind, rows, None, settings)
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = make(rows, settings)
    index.add(rows.numpy())
    return Index(kind, rows, index, settings)


# ----------------------------------------------------------------------------------------------------- on the disk


def save(index: Index, folder: Path, digest: str) -> None:
    """index.faiss, and last index.json, with its seal and what it was made of; OSError where there is no room."""
    faiss, settings = faiss_or_none(), index.settings
    built = {"flat": {}, "ivf": {"lists": lists(len(index.rows), settings)},
             "hnsw": {"links": settings.links or LINKS, "build": settings.build or BUILD}}
    folder.mkdir(exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    try:
        faiss.write_index(index.index, str(folder / FILE))
    except RuntimeError:
        raise OSError("faiss cannot write there") from None
    write_json(folder / DESCRIPTION, {
        "kind": index.kind, "rows": len(index.rows), "dimensions": index.rows.shape[1], "embeddings": digest,
        "built": built[index.kind], "faiss": faiss.__version__, "seal": seal(folder / FILE)})


def load(kind: str, folder: Path, rows: Tensor, digest: str, settings: Settings) -> Index | str:
    """The index in a folder, or why it is not to be taken. A file that this user did not write is not even opened:
    faiss trusts what it reads."""
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if (told["kind"], told["embeddings"]) != (kind, digest):
            return "the one there is of other embeddings"
        if any(value not in (0, told["built"].get(name, value)) for name, value in settings._asdict().items()):
            return "the one there was built with other settings"
        if not is_sealed(folder / FILE, str(told["seal"])):
            return "the file there is not one that you wrote"
        index = faiss_or_none().read_index(str(folder / FILE))
    except FileNotFoundError:
        return "there was none"
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, RuntimeError):
        return "the one there is damaged"
    return Index(kind, rows, index, settings)


def open_index(kind: str, folder: Path, rows: Tensor, digest: str, settings: Settings, *,
               anew: bool = False) -> tuple[Index, str | None]:
    """The index in a folder, built and saved where it is not there, and a sentence where it had to be built."""
    if faiss_or_none() is None:
        return build(kind, rows, settings), "faiss is not installed: searching by PyTorch, without an index."
    found = "as asked" if anew else load(kind, folder, rows, digest, settings)
    if isinstance(found, Index):
        return found, None
    index = build(kind, rows, settings)
    try:
        save(index, folder, digest)
    except OSError as error:
        return index, f"{folder}: built an index ({found}), which is not kept ({error})."
    return index, f"{folder}: built an index ({found})."
