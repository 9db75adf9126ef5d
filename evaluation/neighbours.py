"""Exact nearest neighbours by inner product: two search backends, one ranking.

Two rows tie when their similarities are equal as correctly rounded float32 numbers, and ties go to the lower index.
A float32 matrix product does not decide that: its last bits depend on the library, the device and the block size. So
a backend only proposes candidates; similarities too close to tell apart are computed again in float64 before ranking.
"""
import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from utilities.errors import RunError, UsageError
from utilities.registry import lookup

MARGIN = 32             # candidates asked for beyond k, so that ties at the cut rarely need the exhaustive search
CELLS = 2**22           # entries of a float64 block of similarities (32 MB); long galleries get fewer rows a block
SCRATCH = 2**18         # numbers of a temporary that stays in the processor's cache
FAISS_GPU_LIMIT = 2048  # faiss on a GPU returns at most this many neighbours

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]


@torch.no_grad()
def nearest_neighbours(query: Tensor, gallery: Tensor, k: int, *, exclude_self: bool = False, backend: str = "auto",
                       block: int = 1024, gpu: bool = False) -> tuple[Tensor, Tensor]:
    """The k gallery rows of largest inner product with each query row, best first, ties by the lower index.

    query (Q, D), gallery (N, D) -> similarity (Q, k) float32, index (Q, k) int64, on the query's device.
    exclude_self: the query is the gallery, and row i is no neighbour of query i (left out by index, so a duplicate of
        it still is one).
    backend: 'faiss', 'torch' (on the tensors' device), or 'auto': faiss where it is installed and the tensors lie on
        the CPU, torch otherwise. The index is the same for all of them and for any block; the similarity agrees to
        float32 precision.
    block: query rows searched at a time; fewer where the gallery is so long that a block would not fit in memory.
    gpu: let faiss search on its first GPU, where it has one.
    """
    query, gallery = query.float(), gallery.float()
    _check(query, gallery, k, exclude_self)
    wanted = min(k + exclude_self + MARGIN, len(gallery))
    search = _searcher(backend, gallery, wanted, gpu)
    reach = gallery.norm(dim=1).max()
    found = []
    with full_precision(query.device):
        for start, rows in row_blocks(query, block):
            itself = torch.arange(start, start + len(rows), device=query.device) if exclude_self else None
            found.append(_settle(rows, gallery, search(rows, wanted), k, itself, reach))
    return torch.cat([s for s, _ in found]), torch.cat([i for _, i in found])      # (Q, k), (Q, k)


def exact_similarity(query: Tensor, gallery: Tensor) -> Tensor:
    """Inner products rounded once, from float64: the same float32 number in any block, on any device."""
    return (query.double() @ gallery.double().T).float()                           # (Q, N)


def row_blocks(query: Tensor, block: int, width: int = 1) -> Iterator[tuple[int, Tensor]]:
    """Consecutive blocks of query rows with the number of their first row: `block` rows, or fewer where a table of
    (rows, width) would exceed CELLS entries."""
    rows = max(1, min(block, CELLS // width))
    for start in range(0, len(query), rows):
        yield start, query[start:start + rows]                                     # (rows, D)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No TF32, bfloat16 or autocast inside: training may allow them, a ranking must not depend on them."""
    products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [product.fp32_precision for product in products]
    try:
        for product in products:
            product.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for product, precision in zip(products, before):
            product.fp32_precision = precision


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
    bad = (~rows.isfinite().all(dim=1)).nonzero()                                  # (bad, 1)
    if len(bad):
        raise RunError(f"evaluation: {len(bad)} of {len(rows)} {what} embeddings hold NaN or infinity (the first is "
                       f"row {bad[0].item()}); the model has diverged: lower the learning rate or resume from an "
                       f"earlier checkpoint.")


def _searcher(backend: str, gallery: Tensor, wanted: int, gpu: bool) -> Search:
    """The search function of the backend in force over this gallery."""
    if backend == "auto":
        backend = "faiss" if faiss_or_none() and not gallery.is_cuda else "torch"
    return lookup(BACKENDS, backend, "search backend", "--search_backend")(gallery, wanted, gpu)


def _torch_searcher(gallery: Tensor, wanted: int, gpu: bool) -> Search:
    """Matrix product and top-k."""
    def search(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        best = [(part @ gallery.T).topk(m, dim=1) for _, part in row_blocks(rows, len(rows), len(gallery))]
        return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])     # (rows, m), (rows, m)
    return search


def _faiss_searcher(gallery: Tensor, wanted: int, gpu: bool) -> Search:
    """A flat inner-product index; beyond what faiss can return from a GPU, torch."""
    faiss = faiss_or_none()
    if faiss is None:
        raise UsageError("--search_backend faiss: faiss is not installed; install faiss-cpu or choose torch.")
    on_gpu = gpu and faiss.get_num_gpus() > 0
    if on_gpu and wanted > FAISS_GPU_LIMIT:
        return _torch_searcher(gallery, wanted, gpu)
    index = faiss.IndexFlatIP(gallery.shape[1])
    if on_gpu:
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    index.add(gallery.cpu().numpy())

    def search(rows: Tensor, m: int) -> tuple[Tensor, Tensor]:
        score, found = index.search(rows.cpu().numpy(), m)
        return torch.from_numpy(score).to(rows.device), torch.from_numpy(found).to(rows.device)
    return search


BACKENDS = {"faiss": _faiss_searcher, "torch": _torch_searcher}


def _settle(rows: Tensor, gallery: Tensor, candidates: tuple[Tensor, Tensor], k: int, itself: Tensor | None,
            reach: Tensor) -> tuple[Tensor, Tensor]:
    """The exact first k of the candidates, which a backend sorted by a score that is off by rounding.

    Where scores next to each other differ by more than rounding can explain their order is certain; the others are
    scored again. Where row k is that close to the last candidate, a row never proposed may belong to the first k, and
    the whole gallery is scored.
    """
    score, index = candidates                                                      # (rows, m), (rows, m)
    cut = score[:, -1].clone()                                                     # (rows,) no row left out scores more
    if itself is not None:
        score = score.masked_fill(index == itself[:, None], -torch.inf)
        score, order = score.sort(dim=1, descending=True, stable=True)
        index = index.gather(1, order)
    slack = rows.norm(dim=1) * reach * _rounding(rows.shape[1])                    # (rows,)
    crowded = (score[:, k - 1] - cut <= slack) & (score.shape[1] < len(gallery))   # (rows,)
    score, index = _ranked(_rescore(rows, gallery, score, index, slack), index, k)
    which = crowded.nonzero()[:, 0]                                                # (crowded,)
    for _, part in row_blocks(which, len(which), len(gallery)):
        score[part], index[part] = _exhaustive(rows[part], gallery, k, None if itself is None else itself[part])
    return score, index


def _rounding(width: int) -> float:
    """How far two float32 dot products of unit rows may stray apart; several times the largest error ever seen."""
    return (width ** 0.5 + 4) * torch.finfo(torch.float32).eps


def _rescore(rows: Tensor, gallery: Tensor, score: Tensor, index: Tensor, slack: Tensor) -> Tensor:
    """The scores (rows, m), with those that stand within the slack of a neighbour replaced by exact ones."""
    close = score[:, :-1] - score[:, 1:] <= slack[:, None]                         # (rows, m - 1)
    edge = close.new_zeros(len(rows), 1)
    unsure = (torch.cat([close, edge], 1) | torch.cat([edge, close], 1)) & score.isfinite()
    where, column = unsure.nonzero(as_tuple=True)                                  # (pairs,), (pairs,)
    chosen = index[where, column]                                                  # (pairs,)
    score, step = score.clone(), max(1, SCRATCH // rows.shape[1])
    for start in range(0, len(where), step):
        part = slice(start, start + step)
        exact = (rows[where[part]].double() * gallery[chosen[part]].double()).sum(1)
        score[where[part], column[part]] = exact.float()                           # (pairs in this part,)
    return score


def _ranked(score: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k of the candidates by score, ties by the lower index: two stable sorts."""
    index, order = index.sort(dim=1)
    score, place = score.gather(1, order).sort(dim=1, descending=True, stable=True)
    return score[:, :k].contiguous(), index.gather(1, place)[:, :k].contiguous()   # (rows, k), (rows, k)


def _exhaustive(rows: Tensor, gallery: Tensor, k: int, itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first k of the whole gallery: all rows above the k-th similarity and the lowest indices of those at it."""
    score = exact_similarity(rows, gallery)                                        # (rows, N)
    if itself is not None:
        score.scatter_(1, itself[:, None], -torch.inf)
    last = score.topk(k, dim=1).values[:, -1:]                                     # (rows, 1)
    above, level = score > last, score == last                                     # (rows, N), (rows, N)
    room = k - above.sum(1, keepdim=True)                                          # (rows, 1)
    keep = above | (level & (level.cumsum(1) <= room))
    index = keep.nonzero()[:, 1].view(-1, k)                                       # (rows, k) ascending
    return _ranked(score.gather(1, index), index, k)
