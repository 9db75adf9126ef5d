"""k-means (Lloyd, "Least squares quantization in PCM", 1982), exact and repeatable.

After a few rounds most centres stand still. A row whose centre stands still can only move to a
centre that has moved, so it is compared with those alone. The clusters are those of comparing
everything, in a fraction of the time where clusters are small.
"""
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from evaluation.ranking import TILE_SIDE, exact_unit, is_narrow, map_blocks, row_blocks
from utilities.device import full_precision
from utilities.pairwise import unit

# at most, as in the evaluations that published NMI numbers come from
ROUNDS = 20


@torch.no_grad()
def kmeans(embedding: Tensor, clusters: int, *, spherical: bool = False, seed: int = 0,
           gpu: bool = False, rounds: int = ROUNDS) -> Tensor:
    """The cluster of each row, (N,), from `clusters` rows drawn at random; the same for one seed.

    embedding (N, D), clustered as given; spherical: unit rows and centres, that is, by cosine
    (Dhillon and Modha, Machine Learning 2001). gpu: compute on the first GPU, where there is one;
    clusters differ only where two centres are equally near to float32 precision. Narrow rows are
    clustered in float64, less their median.
    A cluster that lost all rows moves to the row farthest from its centre; with fewer distinct
    rows than clusters some stay empty. Memory: three tables of centres (K, D), one of them
    float64, the rows of moved clusters, and a block of distances as in the neighbour search.
    """
    rows = exact_unit(embedding) if spherical else embedding  # (N, D)
    origin = torch.zeros_like(rows[0])
    if is_narrow(rows):
        origin = rows.double().median(0).values
        rows = rows - origin
    else:
        rows = rows.float()
    if gpu and torch.cuda.is_available():
        rows = rows.cuda()
        origin = origin.cuda()
    project = partial(_on_sphere, origin) if spherical else lambda mean: mean
    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(rows), generator=generator)[:clusters]
    centre = rows[start.to(rows.device)]  # (K, D)
    moved = torch.ones(len(centre), dtype=torch.bool, device=rows.device)  # (K,)
    with full_precision(rows.device):
        distance, cluster = _nearest(rows, centre, moved)  # (N,), (N,)
        for _ in range(rounds):
            centre, moved = _recentred(rows, centre, cluster, distance, moved, project)
            distance, after = _reassigned(rows, centre, distance, cluster, moved)
            different = after != cluster  # (N,)
            moved = torch.zeros_like(moved)
            moved[cluster[different]] = True
            moved[after[different]] = True
            cluster = after
            if not moved.any():
                break
    return cluster.to(embedding.device)


def _recentred(rows: Tensor, centre: Tensor, cluster: Tensor, distance: Tensor, moved: Tensor,
               project: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The new centres (K, D) and which of them have moved (K,).

    moved (K,): the clusters whose rows changed; their centres become the mean of their rows,
    projected. The centres of empty clusters become rows far from their own centre.
    """
    centre = centre.clone()
    count = cluster.bincount(minlength=len(centre))  # (K,)
    total = torch.zeros_like(centre, dtype=torch.float64)
    which = moved[cluster].nonzero()[:, 0]
    for _, part in row_blocks(which, len(which), rows.shape[1]):
        total.index_add_(0, cluster[part], rows[part].double())
    filled = moved & (count > 0)
    mean = (total[filled] / count[filled, None]).to(rows.dtype)
    centre[filled] = project(mean)
    empty = (count == 0).nonzero()[:, 0]
    far = distance.topk(min(len(empty), len(rows)))
    apart = far.values > 0
    empty = empty[apart]
    centre[empty] = rows[far.indices[apart]]
    return centre, filled.index_fill(0, empty, True)


def _on_sphere(origin: Tensor, mean: Tensor) -> Tensor:
    """Means (K, D) as the nearest points of the unit sphere, both relative to the origin (D,)."""
    origin = origin.to(mean.dtype)
    return unit(mean + origin) - origin


def _reassigned(rows: Tensor, centre: Tensor, distance: Tensor, cluster: Tensor,
                moved: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance (N,) and index (N,) of the nearest centre, after some have `moved` (K,)."""
    left = moved[cluster]  # (N,) rows whose own centre went away
    at_rest = distance.masked_fill(left, torch.inf)
    rival, place = _nearest(rows, centre, moved)
    # a rival within the old distance is nearer than all centres at rest; others must be compared
    again = (left & (rival > distance)).nonzero()[:, 0]
    distance, cluster = _nearer(at_rest, cluster, rival, place)
    if len(again) and not moved.all():
        rival, place = _nearest(rows[again], centre, ~moved)
        nearer = _nearer(distance[again], cluster[again], rival, place)
        distance[again], cluster[again] = nearer
    return distance, cluster


def _nearer(distance: Tensor, cluster: Tensor, rival: Tensor,
            place: Tensor) -> tuple[Tensor, Tensor]:
    """The nearer of two centres of each row, of equally near ones that of the lower index."""
    closer = (rival < distance) | ((rival == distance) & (place < cluster))
    return torch.where(closer, rival, distance), torch.where(closer, place, cluster)


def _nearest(rows: Tensor, centre: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance (N,) and index (N,) of the nearest centre where `among` (K,) is true, of
    several the one of the lowest index."""
    candidate = among.nonzero()[:, 0]
    centre = centre[candidate]
    cpu = rows.device.type == "cpu"
    side = min(TILE_SIDE, len(centre)) if cpu else len(centre)
    size = TILE_SIDE * TILE_SIDE // side if cpu else len(rows)
    tiles = list(zip(centre.square().sum(1).split(side), centre.split(side)))

    def nearest(block: tuple[int, Tensor]) -> tuple[Tensor, Tensor]:
        _, rows = block
        least = [torch.addmm(square, rows, some.T, alpha=-2).min(1) for square, some in tiles]
        value, tile = torch.stack([one.values for one in least]).min(0)  # (B,), (B,)
        index = torch.stack([one.indices for one in least]).gather(0, tile[None])[0]
        return value + rows.square().sum(1), index + side * tile

    # products with few centres are too short for threads of their own
    parallel = cpu and len(tiles) > 1
    found = list(map_blocks(nearest, row_blocks(rows, size, side), parallel))
    distance = torch.cat([value for value, _ in found])
    index = torch.cat([index for _, index in found])
    return distance.clamp(min=0), candidate[index]
