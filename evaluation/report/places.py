"""Where the test images lie on a 2-D map: which are chosen, and their points by t-SNE."""
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.base import ranked_within_class

FEW = 4  # images of a class that show where it lies
PCA_DIMENSIONS, PERPLEXITY, STEPS = 50, 30, 500


class Places(NamedTuple):
    """Which rows a map shows, (n,) ascending, and where, (n, 2) float32."""

    row: Tensor
    point: Tensor


def place_images(embedding: Tensor, label: Tensor, limit: int, seed: int = 0) -> Places:
    """The map of up to `limit` rows, as many of each class.

    embedding (N, D) unit rows, label (N,) 0-based.
    3,000 rows take some 10 s: the time grows a little faster than their number, and not with N.
    """
    row = choose_images(label, limit, seed)  # (n,)
    return Places(row, torch.from_numpy(project(embedding[row].cpu().numpy(), seed)))


def choose_images(label: Tensor, limit: int, seed: int = 0) -> Tensor:
    """Up to `limit` rows, (n,) ascending: equally many of every class, at random.

    label (N,) 0-based.
    Where that would be less than FEW of each class: FEW of as many classes, at random.
    """
    generator = torch.Generator().manual_seed(seed)
    order, rank, count = ranked_within_class(label, generator)  # (N,), (N,), (C,)
    place = torch.randperm(len(count), generator=generator)[label]  # (N,) of the row's class
    is_drawn = place < max(1, limit // FEW)
    turn = (~is_drawn).long() * len(label) + rank  # (N,) round by round
    best = torch.argsort(turn * len(count) + place)[:limit]
    return best.sort().values


def project(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rows (n, D) to points (n, 2): t-SNE of principal components.

    t-SNE: van der Maaten and Hinton, JMLR 2008. It begins at the first two components. Fewer
    than 5 rows keep those; rows that are all equal fall on one point. One thread computes: several
    would add in an order that changes from run to run.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits
    start = np.zeros((len(rows), 2), dtype=np.float32)
    if (rows == rows[0]).all():
        return start
    with threadpool_limits(1):
        pca = PCA(min(PCA_DIMENSIONS, *rows.shape), random_state=seed)
        component = pca.fit_transform(rows)  # (n, 50)
        start[:, :component.shape[1]] = component[:, :2]
        if len(rows) < 5:
            return start
        start *= 1e-4 / max(start[:, 0].std(), 1e-9)
        perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init=start, max_iter=STEPS, random_state=seed, n_jobs=1)
        return tsne.fit_transform(component)  # (n, 2)
