"""Exact nearest neighbours by inner product: two search backends, two precisions, one ranking.

A backend only proposes candidates. Where float32 cannot tell them apart, or may have missed one,
evaluation.ranking.rescore scores again exactly. A half-precision search is then repeated in
float32, and a float32 search by scoring the whole gallery in float64.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.ranking.exact import SHORT, rounding_error, row_blocks
from evaluation.ranking.rescore import Propose, Step, rescore
from evaluation.ranking.rows import Rows, plain_rows
from evaluation.ranking.threads import map_blocks
from utilities.device import full_precision
from utilities.errors import RunError, UsageError
from utilities.ranges import PositiveInt, refuse
from utilities.registry import lookup

MARGIN = 3              # candidates beyond k, so that ties at the cut rarely need a second search
PRECISIONS = {"float32": False, "half": True}
FAISS_GPU_LIMIT = 2048  # faiss on a GPU returns at most this many neighbours


@dataclass(frozen=True)
class SearchOptions:
    """How to search; which neighbours are found does not depend on it.

    backend: 'faiss', 'torch' (on the tensors' device), or 'auto': faiss where it is installed and
        the tensors lie on the CPU, torch otherwise.
    block: query rows searched at a time; fewer where the gallery is so long that a block would not
        fit in memory.
    gpu: let faiss search on all GPUs that it sees.
    precision: 'float32', or 'half': candidates by float16 on a GPU, bfloat16 on the CPU, with torch.
    """

    backend: str = "auto"
    block: int = 1024
    gpu: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        lookup(dict.fromkeys(["auto", *BACKENDS]), self.backend, "search backend", "--search_backend")
        lookup(PRECISIONS, self.precision, "search precision", "--search_precision")
        refuse("search block", PositiveInt, self.block)


@torch.no_grad()
def nearest(query: Tensor | Rows, gallery: Tensor | Rows, k: int, *, exclude_self: bool = False,
            **options) -> tuple[Tensor, Tensor]:
    """The k gallery rows of largest inner product, best first, ties by the lower index.

    query (Q, D), gallery (N, D), or what evaluation.ranking.searched gives -> similarity (Q, k)
    float32, index (Q, k) int64, on the query's device. The similarity agrees with the exact one to float32 precision.
    exclude_self: the query is the gallery, and row i is no neighbour of query i. It is left out by
        index, so a duplicate of it still is one.
    options: those of SearchOptions.
    """
    query = query if isinstance(query, Rows) else plain_rows(query)
    gallery = gallery if isinstance(gallery, Rows) else plain_rows(gallery)
    _check(query.product, gallery.product, k, exclude_self)
    k = int(k)
    device = query.product.device
    itself = torch.arange(len(query), device=device) if exclude_self else None
    similarity = torch.empty(len(query), k, device=device)
    index = torch.empty(len(query), k, dtype=torch.long, device=device)
    # of rows of length one, less a centre or not, the distance gives the cosine
    is_shifted = query.narrow and query.cosine
    offset = torch.ones_like(query.offset) if is_shifted else query.offset
    blocks = neighbour_blocks(query, gallery, k, itself, SearchOptions(**options))
    for place, score, number in blocks:
        similarity[place] = (score + offset[place, None]).float()
        index[place] = number
    return similarity, index  # (Q, k), (Q, k)


def neighbour_blocks(query: Rows, gallery: Rows, k: int, itself: Tensor | None,
                     options: SearchOptions) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """nearest, block by block: the queries' place, exact scores (B, k) float64, index (B, k).

    itself (Q,): the gallery row that is the query and is left out; None: none is.
    """
    wanted = min(k + (itself is not None) + MARGIN, len(gallery))
    steps = _steps(gallery.product, wanted, options)

    def search(block: tuple[int, Rows]) -> tuple[slice, Tensor, Tensor]:
        start, rows = block
        place = slice(start, start + len(rows))
        own = None if itself is None else itself[place]
        return place, *rescore(rows, gallery, steps, k, wanted, own)

    device = query.product.device
    parallel = device.type == "cpu" and not options.gpu
    with full_precision(device):
        yield from map_blocks(search, row_blocks(query, options.block, wanted), parallel)


def faiss_or_none():
    """The faiss module, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def _check(query: Tensor, gallery: Tensor, k: int, exclude_self: bool) -> None:
    if exclude_self and len(query) != len(gallery):
        raise UsageError("nearest neighbours: exclude_self needs the gallery itself as the query, "
                         f"but there are {len(query)} query rows and {len(gallery)} gallery rows; "
                         "pass the same tensor twice.")
    available = max(len(gallery) - exclude_self, 0)
    if not 1 <= k <= available:
        raise UsageError(f"nearest neighbours: k = {k} asked for, but each query has {available} "
                         f"rows to choose from; ask for 1 to {available}.")
    check_finite(query, "query")
    check_finite(gallery, "gallery")


def check_finite(rows: Tensor, what: str) -> None:
    """A RunError that names the first row with a NaN or an infinity."""
    # where the sum is finite all numbers are, which costs less
    if rows.sum().isfinite():
        return
    bad = (~rows.isfinite().all(dim=1)).nonzero()  # (bad, 1)
    if len(bad):
        raise RunError(f"evaluation: {len(bad)} of {len(rows)} {what} embeddings hold NaN or "
                       f"infinity (the first is row {bad[0].item()}); the model has diverged: "
                       "lower the learning rate or resume from an earlier checkpoint.")


def _steps(gallery: Tensor, wanted: int, options: SearchOptions) -> list[Step]:
    """The searches to try one after the other, each with its rounding error."""
    half = PRECISIONS[options.precision]
    backend = options.backend
    if backend == "auto":
        faiss_is_better = faiss_or_none() and not gallery.is_cuda and not half
        backend = "faiss" if faiss_is_better else "torch"
    steps = [(BACKENDS[backend](gallery, wanted, options.gpu), rounding_error(gallery))]
    if not half:
        return steps
    if backend == "faiss":
        raise UsageError("--search_precision half: faiss is asked for float32 only; choose "
                         "--search_backend torch.")
    dtype = torch.float16 if gallery.is_cuda else torch.bfloat16
    return [(_half_search(gallery, dtype), rounding_error(gallery, dtype)), *steps]


def _torch_search(gallery: Tensor, wanted: int, gpu: bool) -> Propose:
    """Matrix product and top-k."""
    def propose(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        blocks = row_blocks(rows, len(rows), len(gallery))
        best = [(part @ gallery.T).topk(m, dim=1) for _, part in blocks]
        score = torch.cat([values for values, _ in best])
        index = torch.cat([indices for _, indices in best])
        return score, index  # (B, m), (B, m)
    return propose


def _half_search(gallery: Tensor, dtype: torch.dtype) -> Propose:
    """The same in half precision; rows are scaled so that the longest has length one."""
    longest = gallery.norm(dim=1).max().clamp(min=SHORT)
    search = _torch_search((gallery / longest).to(dtype), 0, False)

    def propose(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        length = rows.norm(dim=1, keepdim=True).clamp(min=SHORT)  # (B, 1)
        score, index = search((rows / length).to(dtype), m)
        return score.float() * (length * longest), index  # (B, m), (B, m)
    return propose


def _faiss_search(gallery: Tensor, wanted: int, gpu: bool) -> Propose:
    """A flat faiss index, on every GPU that it sees where asked to; torch where a GPU cannot
    return as many neighbours."""
    faiss = faiss_or_none()
    if faiss is None:
        raise UsageError("--search_backend faiss: faiss is not installed; install faiss-cpu or "
                         "choose torch.")
    on_gpu = gpu and faiss.get_num_gpus() > 0
    if on_gpu and wanted > FAISS_GPU_LIMIT:
        return _torch_search(gallery, wanted, gpu)
    index = faiss.IndexFlatIP(gallery.shape[1])
    if on_gpu:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(gallery.cpu().numpy())

    def propose(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        # the number is one of this thread's own: see map_blocks
        faiss.omp_set_num_threads(torch.get_num_threads())
        score, found = index.search(rows.cpu().numpy(), m)
        return torch.from_numpy(score).to(rows.device), torch.from_numpy(found).to(rows.device)
    return propose


BACKENDS = {"faiss": _faiss_search, "torch": _torch_search}
