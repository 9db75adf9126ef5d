"""Batches that cover a large random batch: centres chosen from it by distance, and other images
of their classes.
"""
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.samplers.by_class import in_turn, times_seen
from datasets.samplers.storage import StorageSampler
from utilities.errors import UsageError
from utilities.pairwise import squared_distance

# numbers in the largest table that is held at once
TABLE = 2**24
# quantile from which on the softened choice draws
SOFTENED = 0.97
# added to the variances of the Gaussian, as a share of their mean
RIDGE = 1e-6


class Coreset(StorageSampler):
    """bs / samples_per_class centres of batchmatch_bigbs random images, each with images of its
    class.

    Each centre is followed by samples_per_class - 1 other images of its class, drawn at random: so
    the base framework fills up a batch. Images take turns as candidates, all of them before one
    comes again. Two centres may share a class; an image comes twice only where its class has too
    few. With fewer images than batchmatch_bigbs all are candidates. Memory while planning: some
    tables of 64 MiB, or of batchmatch_bigbs * max(batchmatch_bigbs, D) numbers where that is more.
    """

    def __post_init__(self):
        super().__post_init__()
        self.rows_of = self.labels.argsort(stable=True).split(self.count.tolist())
        if self.batchmatch_bigbs < self.classes_per_batch:
            raise UsageError(f"--data_batchmatch_bigbs {self.batchmatch_bigbs} is too few to "
                             f"choose {self.classes_per_batch} from (--bs / --samples_per_class); "
                             "raise it.")

    @abstractmethod
    def centres(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Places (b, bs / samples_per_class) of the centres among the candidates x (b, M, D) of
        b batches.
        """

    def choose(self, space: Tensor, generator: torch.Generator) -> Tensor:
        """The rows of all batches, (batches, bs)."""
        number = min(self.batchmatch_bigbs, len(space))
        candidate = in_turn(len(space), number, len(self), generator)  # (batches, M)
        at_once = max(1, TABLE // (number * max(number, space.shape[1])))
        batches = []
        for some in candidate.split(at_once):
            place = self.centres(space[some.to(self.device)], generator).cpu()
            batches += some.gather(1, place)  # of (P,) each
        return torch.stack([self.with_companions(centre, generator) for centre in batches])

    def with_companions(self, centre: Tensor, generator: torch.Generator) -> Tensor:
        """Each centre (P,) followed by samples_per_class - 1 random images of its class, (bs,).

        Images that are not in the batch come first; where none are left, those that are, as evenly
        as possible.
        """
        label, slot, centres = self.labels[centre].unique(return_inverse=True, return_counts=True)
        # all M images of these classes, class by class
        member = torch.cat([self.rows_of[one] for one in label])  # (M,)
        own = self.labels[member]
        # within each class its centres first, then the others in random order
        is_other = ~torch.isin(member, centre)
        noise = torch.rand(len(own), generator=generator, dtype=torch.float64)
        member = member[(2 * own + is_other + noise).argsort()]
        count = self.count[label]
        start = count.cumsum(0) - count
        others = self.samples_per_class - 1
        first = centres[slot] + times_seen(slot) * others  # (P,)
        place = first[:, None] + torch.arange(others)  # (P, K - 1)
        companion = member[start[slot][:, None] + place % count[slot][:, None]]
        return torch.cat([centre[:, None], companion], dim=1).flatten()


@dataclass(eq=False)
class GreedyCoreset(Coreset):
    """Greedy k-centre (Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", 1985).

    For batches by Sinha et al., "Small-GAN: Speeding Up GAN Training Using Core-sets", 2019:

        c_1 random,    c_(k+1) = argmax_i min_(j <= k) |x_i - x_(c_j)|

    gc_softened: c_(k+1) is drawn from the candidates whose minimum reaches the 97 % quantile of
    all. The base framework measures on one draw of candidates and takes its images from another.
    """

    gc_softened: bool = False

    def centres(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Places of the centres (b, P) among the candidates x (b, M, D)."""
        batches, number = x.shape[:2]
        distance = squared_distance(x)  # (b, M, M)
        row = torch.arange(batches, device=x.device)
        # of (b,) each
        chosen = [torch.randint(number, (batches,), generator=generator).to(x.device)]
        nearest = torch.full_like(distance[..., 0], torch.inf)  # (b, M)
        free = torch.ones_like(nearest, dtype=torch.bool)
        while len(chosen) < self.classes_per_batch:
            nearest = nearest.minimum(distance[row, chosen[-1]])
            free[row, chosen[-1]] = False
            score = nearest.masked_fill(~free, -1)
            if self.gc_softened:
                far = nearest >= nearest.quantile(SOFTENED, dim=1, keepdim=True)
                noise = torch.rand(batches, number, generator=generator).to(x.device)
                score = noise.masked_fill(~(free & far), -1)
            chosen.append(score.argmax(1))
        return torch.stack(chosen, dim=1)


@dataclass(eq=False)
class D2Coreset(Coreset):
    """Centres drawn far from each other, and where the candidates are dense: D^2 sampling.

    Arthur and Vassilvitskii, "k-means++", 2007, as the base framework has it: from distances to all
    chosen centres and under a Gaussian.

        c_1 = the candidate nearest to a draw from N(mu, S),
        P(c_(k+1) = i)  ~  N(x_i; mu, S) (sum_(j <= k) |x_i - x_(c_j)|^2)^lambda

    over those not chosen yet, with mean mu and covariance S of the candidates. The variances of S
    are raised by a millionth of their mean, since it is singular with fewer candidates than
    dimensions (the density is then almost equal at all of them).
    d2_coreset_lambda: how strongly distance counts; 0: the Gaussian alone.
    """

    d2_coreset_lambda: float = 1.0

    def centres(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Places of the centres (b, P) among the candidates x (b, M, D)."""
        batches, number = x.shape[:2]
        distance = squared_distance(x)  # (b, M, M)
        row = torch.arange(batches, device=x.device)
        density = log_density(x)  # (b, M)
        chosen = [self.nearest_to_a_draw(x, generator)]
        total = torch.zeros_like(density)
        smallest = torch.finfo(x.dtype).tiny
        while len(chosen) < self.classes_per_batch:
            total = total + distance[row, chosen[-1]]  # (b, M)
            density[row, chosen[-1]] = -torch.inf
            far = self.d2_coreset_lambda * total.clamp(min=smallest).log()
            # the largest of these sums is a draw from the softmax
            waiting = torch.empty(batches, number).exponential_(generator=generator).to(x.device)
            chosen.append((density + far - waiting.log()).argmax(1))
        return torch.stack(chosen, dim=1)

    @staticmethod
    def nearest_to_a_draw(x: Tensor, generator: torch.Generator) -> Tensor:
        """For each of the b batches the candidate nearest to a draw from the candidates'
        Gaussian, (b,).
        """
        noise = torch.randn(*x.shape[:2], 1, generator=generator).to(x.device)  # (b, M, 1)
        mean = x.mean(1, keepdim=True)
        # its covariance is S
        draw = mean + ((x - mean) * noise).sum(1, keepdim=True) / max(1, x.shape[1] - 1)**0.5
        return (x - draw).square().sum(-1).argmin(1)


def log_density(x: Tensor) -> Tensor:
    """Log-density of the rows of x (b, M, D) under their own Gaussian, up to a constant for each
    b, (b, M) float64.
    """
    centred = x.double() - x.double().mean(1, keepdim=True)
    covariance = centred.mT @ centred / max(1, x.shape[1] - 1)  # (b, D, D)
    variance = covariance.diagonal(dim1=1, dim2=2).mean(1)
    ridge = RIDGE * variance.clamp(min=torch.finfo(x.dtype).tiny)  # (b,)
    eye = torch.eye(x.shape[2], device=x.device)
    factor = torch.linalg.cholesky(covariance + ridge[:, None, None] * eye)
    whitened = torch.linalg.solve_triangular(factor, centred.mT, upper=False)  # (b, D, M)
    return -whitened.square().sum(1) / 2
