"""k-means (Lloyd, "Least squares quantization in PCM", 1982), exact, repeatable, and fast where clusters are small.

After a few rounds most centres stand still. A row whose centre stands still can only be drawn to one that has moved,
so it is compared with those alone: the same clusters as by comparing everything, in a fraction of the time.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from evaluation.ranking.exact import SIDE, places, row_blocks, slack
from evaluation.ranking.neighbours import faiss_or_none
from evaluation.ranking.rough import Rough, blur, has_fast_bfloat16, products, rough
from evaluation.ranking.threads import map_blocks
from utilities.device import full_precision
from utilities.pairwise import unit

ROUNDS = 20  # at most, as in the evaluations that published NMI numbers come from; it stops where nothing changes
LEFT = 64    # centres a row that rough products may leave to be told apart

Nearest = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@torch.no_grad()
def kmeans(embedding: Tensor, clusters: int, *, spherical: bool = False, seed: int = 0, gpu: bool = False,
           rounds: int = ROUNDS) -> Tensor:
    """The cluster of each row, (N,), by k-means from `clusters` rows drawn at random; the same for the same seed.

    embedding (N, D), clustered as given; spherical: unit rows and centres, that is, by cosine (Dhillon and Modha,
    Machine Learning 2001). A matrix product on the rows' device finds the nearest centres, or faiss where rows lie on
    the CPU and `gpu` asks for its first GPU; both start alike and differ only where two centres are equally near to
    float32 precision. A cluster that lost all rows moves to the row farthest from its centre;
    with fewer distinct rows than clusters some stay empty. Memory: three tables of centres (K, D), one of them float64,
    the rows whose centre went away, and a block of distances as in the neighbour search.
    """
    rows = unit(embedding.float()) if spherical else embedding.float()             # (N, D)
    start = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:clusters]
    centre, nearest = rows[start.to(rows.device)], _search(rows.device, gpu)       # (K, D)
    moved = torch.ones(len(centre), dtype=torch.bool, device=rows.device)          # (K,)
    with full_precision(rows.device):
        distance, cluster = nearest(rows, centre)                                  # (N,), (N,)
        for _ in range(rounds):
            centre, moved = _recentred(rows, centre, cluster, distance, moved, spherical)
            distance, after = _reassigned(rows, centre, distance, cluster, moved, nearest)
            different = after != cluster                                           # (N,)
            moved = torch.zeros_like(moved)
            moved[cluster[different]] = moved[after[different]] = True
            cluster = after
            if not moved.any():
                break
    return cluster


def _recentred(rows: Tensor, centre: Tensor, cluster: Tensor, distance: Tensor, moved: Tensor,
               spherical: bool) -> tuple[Tensor, Tensor]:
    """The centres (K, D) and which of them are new (K,): the mean of their rows for the clusters whose rows changed, as
    `moved` tells, and for empty clusters a row far from its own centre."""
    total, centre = torch.zeros_like(centre, dtype=torch.float64), centre.clone()
    count = cluster.bincount(minlength=len(centre))                                # (K,)
    which = moved[cluster].nonzero()[:, 0]                                         # rows of the clusters that moved
    for _, part in row_blocks(which, len(which), rows.shape[1]):
        total.index_add_(0, cluster[part], rows[part].double())
    filled, empty = moved & (count > 0), (count == 0).nonzero()[:, 0]
    mean = (total[filled] / count[filled, None]).float()
    centre[filled] = unit(mean) if spherical else mean
    far = distance.topk(min(len(empty), len(rows)))                                # rows farthest from their centres
    apart = far.values > 0
    centre[empty[apart]] = rows[far.indices[apart]]
    return centre, filled.index_fill(0, empty[apart], True)


def _reassigned(rows: Tensor, centre: Tensor, distance: Tensor, cluster: Tensor, moved: Tensor,
                nearest: Nearest) -> tuple[Tensor, Tensor]:
    """Squared distance (N,) and index (N,) of the nearest centre, after those marked in `moved` (K,) have moved."""
    candidate = moved.nonzero()[:, 0]                                              # (M,)
    rival, place = nearest(rows, centre[candidate])                                # (N,), (N,)
    place = candidate[place]
    closer = (rival < distance) | ((rival == distance) & (place < cluster)) | moved[cluster]
    left = (moved[cluster] & (rival > distance)).nonzero()[:, 0]   # own centre went away: one at rest may be nearer
    distance, cluster = torch.where(closer, rival, distance), torch.where(closer, place, cluster)
    rest = (~moved).nonzero()[:, 0]                                                # (K - M,)
    if len(left) and len(rest):
        rival, place = nearest(rows[left], centre[rest])
        place = rest[place]
        closer = (rival < distance[left]) | ((rival == distance[left]) & (place < cluster[left]))
        distance[left] = torch.where(closer, rival, distance[left])
        cluster[left] = torch.where(closer, place, cluster[left])
    return distance, cluster


def _search(device: torch.device, gpu: bool) -> Nearest:
    """The function that finds each row's nearest centre: (rows (N, D), centres (K, D)) -> distance (N,), index (N,)."""
    faiss = faiss_or_none() if gpu and device.type == "cpu" else None
    if faiss is None or not faiss.get_num_gpus():
        return _nearest
    resources = faiss.StandardGpuResources()

    def search(rows: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        found = faiss.knn_gpu(resources, rows.contiguous().numpy(), centre.contiguous().numpy(), 1)
        distance, index = (torch.from_numpy(column[:, 0]) for column in found)
        return distance, index.long()                                              # (N,), (N,)
    return search


def _nearest(rows: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance (N,) and index (N,) of the nearest centre (lowest index of several), by matrix product: on a CPU
    a third of the time of faiss' search for one neighbour, and half of that where it multiplies bfloat16."""
    cpu = rows.device.type == "cpu"
    side = min(SIDE, len(centre)) if cpu else len(centre)
    many = SIDE * SIDE // side if cpu else len(rows)
    parts = list(zip(centre.square().sum(1).split(side), centre.split(side)))
    half = rough(centre) if len(parts) > 1 and has_fast_bfloat16(rows.device) else None
    distance, index = rows.new_empty(len(rows)), rows.new_empty(len(rows), dtype=torch.long)     # (N,), (N,)

    def block(numbered: tuple[int, Tensor]) -> None:
        start, part = numbered
        found = _least_roughly(part, centre, half, parts) if half else None
        value, place = found or _least(part, parts)
        own = slice(start, start + len(part))
        distance[own], index[own] = value + part.square().sum(1), place
    # products with few centres are short, and threads of their own would cost more than they save
    for _ in map_blocks(block, row_blocks(rows, many, side), cpu and len(parts) > 1):
        pass
    return distance.clamp_(min=0), index


def _least(rows: Tensor, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The least |c|^2 - 2 x c (B,) of each row among the centres and its index (B,); parts: |c|^2 (K',), c (K', D)."""
    least = [torch.addmm(square, rows, some.T, alpha=-2).min(1) for square, some in parts]
    value, part = torch.stack([found.values for found in least]).min(0)            # (B,), (B,)
    index = torch.stack([found.indices for found in least]).gather(0, part[None])[0]
    return value, index + len(parts[0][0]) * part


def _least_roughly(rows: Tensor, centre: Tensor, half: Rough, parts: list[tuple[Tensor, Tensor]]) -> \
        tuple[Tensor, Tensor] | None:
    """The same from rough products, in float32 among the few centres that these leave; None where they leave many."""
    mine, least, start = rough(rows), rows.new_full((len(rows),), torch.inf), 0
    roundoff = torch.finfo(torch.bfloat16).eps / 2
    stray = blur(mine, half, slack(rows, centre)) + roundoff * mine.length * half.length.max()     # (B,)
    found, many = [], 0
    for square, some in parts:
        product = mine.rows @ half.rows[start:start + len(some)].T                 # (B, K')
        value = torch.add(square, product.float(), alpha=-2)
        least = torch.minimum(least, value.amin(1))
        i, j = places(value <= (least + 4 * stray)[:, None])                       # either may stray twice as far
        found.append((i, j + start, value[i, j]))
        start, many = start + len(some), many + len(i)
        if many > LEFT * len(rows):
            return None
    i, j, value = (torch.cat(column) for column in zip(*found))                    # (P,), (P,), (P,)
    near = value <= (least + 4 * stray)[i]
    i, j = i[near], j[near]
    value = centre[j].square().sum(1) - 2 * products(rows, centre, i, j)           # (P,)
    least, index = torch.full_like(least, torch.inf), torch.full((len(rows),), len(centre))
    least.scatter_reduce_(0, i, value, "amin")
    first = value == least[i]
    return least, index.scatter_reduce_(0, i[first], j[first], "amin")             # (B,), (B,)
