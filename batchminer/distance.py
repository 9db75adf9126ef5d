"""Distance-weighted negatives."""
from torch import Tensor

from batchminer.base import BEYOND, ClassBlocks, Miner, admissible, draw
from utilities.errors import UsageError
from utilities.pairwise import negative_mask, similarity, unit
from utilities.ranges import Positive


class DistanceWeighted(Miner):
    """Distance-weighted sampling (Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV
    2017, section 3.2): the positive uniformly at random, the negative n with probability

        P(n | a) ~ 1 / q(d_an),   q(d) = d^(D-2) (1 - d^2 / 4)^((D-3)/2)

    q is the density of distances between random points of the unit sphere in D dimensions.
    Distances are those of the normalised rows. Smaller ones count as lower_cutoff; negatives with
    `d >= upper_cutoff` are not drawn, unless an anchor has no others: then uniformly, as in the
    authors' code. Deviations: at d = 2 `1 - d^2/4` counts as 1e-8. The base framework does not
    apply its upper cutoff, and mines on the rows as given.
    """

    lower_cutoff: Positive = 0.5
    upper_cutoff: Positive = 1.4

    flag = "--miner_distance_"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower_cutoff >= self.upper_cutoff:
            raise UsageError(f"{self.flag}lower_cutoff {self.lower_cutoff} must be below "
                             f"{self.flag}upper_cutoff {self.upper_cutoff}.")

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        negative, found = self.draw_negative(x, label, generator, anchors)  # (A,) each
        positive = blocks.draw_positive(generator)  # (A,)
        return admissible((blocks.positives > 0) & found, positive, negative)

    def draw_negative(self, x: Tensor, label: Tensor, generator, anchors) -> tuple[Tensor, Tensor]:
        """A negative of every anchor, and whether it has one, (A,) each."""
        square = sphere_square(x, anchors)  # (A, N)
        logit = self.log_inverse_density(square, x.shape[-1])  # (A, N)
        # drawn only where all are far
        far = square >= self.upper_cutoff**2  # (A, N)
        logit = logit.masked_fill(far, -BEYOND)
        return draw(negative_mask(label, anchors), generator, logit)

    def log_inverse_density(self, square: Tensor, dim: int) -> Tensor:
        """-log q(d), up to a constant, for d^2 (A, N) on the sphere in `dim` dimensions.

        It is finite for all d of [0, 2].
        """
        square = square.clamp(min=self.lower_cutoff**2)
        opposite = (4 - square).clamp(min=4e-8)
        near = (1 - dim / 2) * square.log()  # (A, N)
        far = (3 - dim) / 2 * opposite.log()  # (A, N)
        return near + far


def sphere_square(x: Tensor, anchors: int | None = None) -> Tensor:
    """Squared distances 2 - 2 cos of the anchors' normalised rows to all, (A, N).

    Rounding may leave -1e-7 for 0.
    """
    u = unit(x)
    return 2 - 2 * similarity(u[:anchors], u)  # (A, N)
