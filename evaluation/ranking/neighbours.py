"""Exact nearest neighbours by inner product: two search backends, two precisions, one ranking.

A backend only proposes candidates; where their similarities are too close to tell apart they are scored again exactly
(evaluation.ranking.exact) before they are ranked, and where a row that was not proposed could belong to them, the row
is searched again: a half-precision search by one in float32, that by the whole gallery in float64.
"""
from collections.abc import Iterator

import torch
from torch import Tensor

from evaluation.ranking.exact import row_blocks, slack
from evaluation.ranking.rescore import Search, Step, settle
from evaluation.ranking.threads import map_blocks
from utilities.device import full_precision
from utilities.errors import RunError, UsageError
from utilities.registry import lookup

MARGIN = 3              # candidates asked for beyond k, so that ties at the cut rarely need the search again
FAISS_GPU_LIMIT = 2048  # faiss on a GPU returns at most this many neighbours


@torch.no_grad()
def nearest_neighbours(query: Tensor, gallery: Tensor, k: int, *, exclude_self: bool = False, backend: str = "auto",
                       block: int = 1024, gpu: bool = False, precision: str = "float32") -> tuple[Tensor, Tensor]:
    """The k gallery rows of largest inner product with each query row, best first, ties by the lower index.

    query (Q, D), gallery (N, D) -> similarity (Q, k) float32, index (Q, k) int64, on the query's device.
    exclude_self: the query is the gallery, and row i is no neighbour of query i (left out by index, so a duplicate of
        it still is one).
    backend: 'faiss', 'torch' (on the tensors' device), or 'auto': faiss where it is installed and the tensors lie on
        the CPU, torch otherwise. The index is the same for all of them, for any block and precision; the similarity
        agrees to float32 precision.
    block: query rows searched at a time; fewer where the gallery is so long that a block would not fit in memory.
    gpu: let faiss search on its GPUs, all that it sees, where it has any.
    precision: 'float32', or 'half': candidates by float16 on a GPU, bfloat16 on the CPU, with torch.
    """
    query, gallery = query.float(), gallery.float()
    _check(query, gallery, k, exclude_self)
    itself = torch.arange(len(query), device=query.device) if exclude_self else None
    similarity = query.new_empty(len(query), k)
    index = torch.empty(len(query), k, dtype=torch.long, device=query.device)
    for part, score, found in neighbour_blocks(query, gallery, k, itself=itself, backend=backend, block=block, gpu=gpu,
                                               precision=precision):
        similarity[part], index[part] = score, found
    return similarity, index                                                       # (Q, k), (Q, k)


def neighbour_blocks(query: Tensor, gallery: Tensor, k: int, *, itself: Tensor | None, backend: str, block: int,
                     gpu: bool, precision: str) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """nearest_neighbours block by block: the queries' place, similarity (B, k), index (B, k).

    itself (Q,): the gallery row that is the query and is left out; None: none is.
    """
    wanted = min(k + (itself is not None) + MARGIN, len(gallery))
    steps = _steps(query, gallery, wanted, backend, gpu, precision)

    def settled(block: tuple[int, Tensor]) -> tuple[slice, Tensor, Tensor]:
        start, rows = block
        part = slice(start, start + len(rows))
        here = [(search, stray[part]) for search, stray in steps]
        return part, *settle(rows, gallery, here, k, wanted, None if itself is None else itself[part])
    with full_precision(query.device):
        yield from map_blocks(settled, row_blocks(query, block, wanted), query.device.type == "cpu" and not gpu)


def faiss_or_none():
    """The faiss module, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def _check(query: Tensor, gallery: Tensor, k: int, exclude_self: bool) -> None:
    available = len(gallery) - exclude_self
    if exclude_self and len(query) != len(gallery):
        raise UsageError(f"nearest neighbours: exclude_self needs the gallery itself as the query, but there are "
                         f"{len(query)} query rows and {len(gallery)} gallery rows; pass the same tensor twice.")
    if not 1 <= k <= available:
        raise UsageError(f"nearest neighbours: k = {k} asked for, but each query has {max(available, 0)} rows to "
                         f"choose from; ask for 1 to {max(available, 0)}.")
    check_finite(query, "query")
    check_finite(gallery, "gallery")


def check_finite(rows: Tensor, what: str) -> None:
    """A RunError that names the first row with a NaN or an infinity."""
    if rows.sum().isfinite():                                                      # then all are, for less work
        return
    bad = (~rows.isfinite().all(dim=1)).nonzero()                                  # (bad, 1)
    if len(bad):
        raise RunError(f"evaluation: {len(bad)} of {len(rows)} {what} embeddings hold NaN or infinity (the first is "
                       f"row {bad[0].item()}); the model has diverged: lower the learning rate or resume from an "
                       f"earlier checkpoint.")


def _steps(query: Tensor, gallery: Tensor, wanted: int, backend: str, gpu: bool, precision: str) -> list[Step]:
    """The searches to try one after the other: the fast one first, each with its error."""
    half = lookup({"float32": False, "half": True}, precision, "search precision", "--search_precision")
    if backend == "auto":
        backend = "faiss" if faiss_or_none() and not gallery.is_cuda and not half else "torch"
    search = lookup(BACKENDS, backend, "search backend", "--search_backend")(gallery, wanted, gpu)
    if not half:
        return [(search, slack(query, gallery))]
    if backend == "faiss":
        raise UsageError("--search_precision half: faiss is asked for float32 only; choose --search_backend torch.")
    dtype = torch.float16 if gallery.is_cuda else torch.bfloat16
    return [(_half_search(gallery, dtype), slack(query, gallery, dtype)), (search, slack(query, gallery))]


def _torch_search(gallery: Tensor, wanted: int, gpu: bool) -> Search:
    """Matrix product and top-k."""
    def search(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        best = [(part @ gallery.T).topk(m, dim=1) for _, part in row_blocks(rows, len(rows), len(gallery))]
        return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])     # (B, m), (B, m)
    return search


def _half_search(gallery: Tensor, dtype: torch.dtype) -> Search:
    """Matrix product in half precision and top-k; rows are scaled so that the longest has length one."""
    longest = gallery.norm(dim=1).max().clamp(min=1e-30)
    search = _torch_search((gallery / longest).to(dtype), 0, False)

    def scaled(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        length = rows.norm(dim=1, keepdim=True).clamp(min=1e-30)                   # (B, 1)
        score, index = search((rows / length).to(dtype), m)
        return score.float() * (length * longest), index                           # (B, m), (B, m)
    return scaled


def _faiss_search(gallery: Tensor, wanted: int, gpu: bool) -> Search:
    """A flat inner-product index, on every GPU that faiss sees where asked to; beyond what a GPU returns, torch."""
    faiss = faiss_or_none()
    if faiss is None:
        raise UsageError("--search_backend faiss: faiss is not installed; install faiss-cpu or choose torch.")
    on_gpu = gpu and faiss.get_num_gpus() > 0
    if on_gpu and wanted > FAISS_GPU_LIMIT:
        return _torch_search(gallery, wanted, gpu)
    index = faiss.IndexFlatIP(gallery.shape[1])
    if on_gpu:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(gallery.cpu().numpy())

    def search(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        faiss.omp_set_num_threads(torch.get_num_threads())                         # of this thread: see map_blocks
        score, found = index.search(rows.cpu().numpy(), m)
        return torch.from_numpy(score).to(rows.device), torch.from_numpy(found).to(rows.device)
    return search


BACKENDS = {"faiss": _faiss_search, "torch": _torch_search}
