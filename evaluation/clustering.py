"""Clustering metrics: k-means with as many clusters as classes, compared with the classes."""
import warnings

import numpy as np
from torch import Tensor

from evaluation.neighbours import faiss_or_none

ROUNDS = 20  # Lloyd iterations, as in the evaluations that published NMI numbers come from


def nmi(embedding: Tensor, label: Tensor, *, seed: int = 0, gpu: bool = False) -> float:
    """Normalised mutual information of classes and k-means clusters: MI / ((H(label) + H(cluster)) / 2), natural logs.

    embedding (N, D), label (N,). A single class against a single cluster, 0/0 in the formula, counts as 1.
    """
    from sklearn.metrics import normalized_mutual_info_score
    cluster = kmeans(embedding, len(label.unique()), seed=seed, gpu=gpu)           # (N,)
    return float(normalized_mutual_info_score(label.cpu().numpy(), cluster, average_method="arithmetic"))


def kmeans(embedding: Tensor, clusters: int, *, seed: int = 0, gpu: bool = False) -> np.ndarray:
    """The cluster of each row, (N,), by k-means on all rows from one random start; the same for the same seed.

    faiss where it is installed, scikit-learn otherwise. The two start differently, so their NMI differs by a few
    tenths of a point; compare runs that were evaluated with the same one.
    """
    rows = np.ascontiguousarray(embedding.detach().float().cpu().numpy())          # (N, D)
    faiss = faiss_or_none()
    if faiss is None:
        return _sklearn_kmeans(rows, clusters, seed)
    search = faiss.Kmeans(rows.shape[1], clusters, niter=ROUNDS, seed=seed, gpu=gpu and faiss.get_num_gpus() > 0,
                          min_points_per_centroid=1, max_points_per_centroid=len(rows))
    search.train(rows)
    return search.assign(rows)[1]                                                  # (N,)


def _sklearn_kmeans(rows: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than classes: an answer all the same
        return KMeans(clusters, n_init=1, random_state=seed).fit_predict(rows)     # (N,)
