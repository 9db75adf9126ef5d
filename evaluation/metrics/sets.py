"""What the metrics of a whole set share: one clustering of each kind, one spectrum."""
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from evaluation.metrics.clustering import Contingency, contingency
from evaluation.metrics.embedding_space import singular_values
from evaluation.metrics.kmeans import kmeans
from evaluation.ranking import centred


@dataclass(frozen=True)
class EvaluatedSet:
    """Rows (N, D) as given but for a power of two, labels (N,), seed and device of k-means, and
    whether values without each class are wanted. What metrics share is computed when the first asks for it."""

    rows: Tensor
    label: Tensor
    seed: int
    gpu: bool
    left_out: bool

    @cached_property
    def centred_rows(self) -> Tensor:
        """The rows for Euclidean distances."""
        return centred(self.rows)

    @cached_property
    def clusters(self) -> Contingency:
        return self._clusters(spherical=False)

    @cached_property
    def spherical_clusters(self) -> Contingency:
        return self._clusters(spherical=True)

    @cached_property
    def singular_values(self) -> Tensor:
        return singular_values(self.rows, self.label if self.left_out else None)

    def _clusters(self, spherical: bool) -> Contingency:
        number = len(self.label.unique())
        options = {"spherical": spherical, "seed": self.seed, "gpu": self.gpu}
        return contingency(self.label, kmeans(self.rows, number, **options))
