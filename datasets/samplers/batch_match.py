"""Batches that look like a large random batch: of some candidates from it the one whose
embeddings match it best.
"""
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.samplers.by_class import in_turn
from datasets.samplers.storage import StorageSampler
from utilities.errors import UsageError
from utilities.pairwise import distance, identity

# of the histograms of distances, as in the base framework
BINS = 50


@dataclass(eq=False)
class BatchMatch(StorageSampler):
    """Of batchmatch_ncomps candidates the one that matches a random batch of up to batchmatch_bigbs
    images best.

    Candidates are drawn from the large batch: bs / samples_per_class different classes of
    samples_per_class images each. The large batch has equally many images of each of its classes,
    samples_per_class or, where there are few classes, more; classes and images take turns as in
    ClassRandom.
    """

    batchmatch_ncomps: int = 10

    has_different_classes = True

    def __post_init__(self):
        super().__post_init__()
        big = self.batchmatch_bigbs
        if big < self.bs:
            raise UsageError(f"--data_batchmatch_bigbs {big} is too few to choose batches of --bs "
                             f"{self.bs} from; raise it.")
        # more than there are would only repeat them
        big = min(big, len(self.labels))
        self.big_classes = min(len(self.count), big // self.samples_per_class)
        # of each of these classes
        self.big_images = big // self.big_classes

    @abstractmethod
    def mismatch(self, x: Tensor, place: Tensor) -> Tensor:
        """How unlike the large batch x (M, D) each candidate is, the rows `place` (ncomps, bs)
        of it, (ncomps,).
        """

    def choose(self, space: Tensor, generator: torch.Generator) -> Tensor:
        """The rows of all batches, (batches, bs)."""
        # (batches, big_classes)
        label = in_turn(len(self.count), self.big_classes, len(self), generator)
        big = self.images(label.flatten(), self.big_images, generator)
        batches = []
        for rows, own in zip(big.view(len(self), -1), label):
            place = self.best(space[rows.to(self.device)], self.draw(own, generator))
            batches.append(rows[place.cpu()])
        return torch.stack(batches)

    def best(self, x: Tensor, place: Tensor) -> Tensor:
        """The candidate of `place` (ncomps, bs) that matches x (M, D) best, (bs,)."""
        place = place.to(self.device)
        return place[self.mismatch(x, place).argmin()]

    def draw(self, label: Tensor, generator: torch.Generator) -> Tensor:
        """The candidates, (ncomps, bs), from a large batch of the classes `label` (big_classes,).

        A class has big_images rows there, one after the other; those beyond its count repeat, and
        are taken last.
        """
        shuffled = torch.rand(self.batchmatch_ncomps, len(label), generator=generator).argsort(1)
        group = shuffled[:, :self.classes_per_batch]  # (ncomps, P)
        repeats = torch.arange(self.big_images) >= self.count[label[group]][..., None]
        order = (torch.rand(repeats.shape, generator=generator) + repeats).argsort(-1)
        own = order[..., :self.samples_per_class]  # (ncomps, P, K)
        return (group[..., None] * self.big_images + own).flatten(1)


class DistanceHistogramMatch(BatchMatch):
    """Distance-distribution matching (DDM, Roth et al., "Revisiting Training Strategies", 2020).

        argmin_b W_1(H(B), H(b))

    H: normalised histogram of the Euclidean distances of all pairs, 50 bins from the smallest to
    the largest in the large batch B; W_1: Wasserstein distance, the area between the cumulative
    histograms. The base framework compares the heights of the bins without their places, and adds
    differences of means and deviations. Memory: tables of batchmatch_bigbs^2 and of
    batchmatch_ncomps bs^2 numbers.
    """

    def mismatch(self, x: Tensor, place: Tensor) -> Tensor:
        """W_1 for each candidate, in bins, (ncomps,)."""
        cell = self.bins(distance(x))  # (M, M)
        whole = torch.arange(len(x), device=x.device)[None]
        return (self.cumulative(cell, place) - self.cumulative(cell, whole)).abs().sum(1)

    @staticmethod
    def bins(apart: Tensor) -> Tensor:
        """The histogram's bin of each entry of a matrix of distances, whose diagonal has no part
        in the range.
        """
        low = apart.masked_fill(identity(apart), torch.inf).min()
        width = (apart.max() - low).clamp(min=torch.finfo(apart.dtype).tiny) / BINS
        return ((apart - low) / width).clamp(0, BINS - 1).long()  # (M, M)

    @staticmethod
    def cumulative(cell: Tensor, place: Tensor) -> Tensor:
        """The normalised cumulative histograms (n, BINS) of the pairs among the rows `place` (n,
        m).
        """
        m = place.shape[1]
        first, second = torch.triu_indices(m, m, 1, device=place.device)
        pair = cell[place[:, first], place[:, second]]  # (n, pairs)
        count = torch.zeros(len(place), BINS, dtype=torch.float64, device=place.device)
        count.scatter_add_(1, pair, torch.ones_like(pair, dtype=count.dtype))
        return count.cumsum(1) / max(1, pair.shape[1])


class FrechetMatch(BatchMatch):
    """Fréchet-distance matching (FRD, Roth et al., "Revisiting Training Strategies", 2020; Dowson
    and Landau, 1982).

        argmin_b |mu_B - mu_b|^2 + tr(S_B + S_b - 2 (S_B S_b)^(1/2))

    with means and covariances (by n - 1) of the large batch B and the candidate b. With centred
    rows X of B and Y of b, tr (S_B S_b)^(1/2) is the sum of the singular values of X Y^T / sqrt((M
    - 1) (bs - 1)), so that singular covariances do no harm. Memory: tables of batchmatch_bigbs D
    and of batchmatch_ncomps bs max(bs, D) numbers in float64.
    """

    def mismatch(self, x: Tensor, place: Tensor) -> Tensor:
        """The Fréchet distance of each candidate, (ncomps,) float64."""
        x = x.double()
        mean, row = scaled(x)  # (1, D), (M, D)
        means, rows = scaled(x[place])  # (ncomps, 1, D), (ncomps, bs, D)
        # R^T R = S_B
        factor = torch.linalg.qr(row, mode="r").R  # (min(M, D), D)
        apart = (mean - means).square().sum((-2, -1))
        apart = apart + row.square().sum() + rows.square().sum((-2, -1))
        return apart - 2 * sum_of_singular_values(factor @ rows.mT)


def scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of rows (..., m, D), and the centred rows times a factor, whose products are the
    covariance.
    """
    mean = x.mean(-2, keepdim=True)
    return mean, (x - mean) / max(1, x.shape[-2] - 1)**0.5


def sum_of_singular_values(matrix: Tensor) -> Tensor:
    """Of each matrix (..., r, m), by the eigenvalues of its smaller Gram matrix, (...)."""
    if matrix.shape[-2] >= matrix.shape[-1]:
        matrix = matrix.mT
    gram = matrix @ matrix.mT
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum(-1)
