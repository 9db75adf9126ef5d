"""The contract of every miner, and the few ways in which they draw."""
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from utilities.errors import UsageError
from utilities.pairwise import at_least_float32, only, refuse_shapes
from utilities.ranges import with_arguments
from utilities.seed import RandomStream
from utilities.text import shown

# nats: what is so much less likely is never drawn
BEYOND = 1e9


class Triplets(NamedTuple):
    """Indices into the batch: T anchors, each with one positive and one negative; T may be 0."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class Quadruplets(NamedTuple):
    """Triplets with a second negative, of another class than the anchor and the first negative."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    second_negative: Tensor


@dataclass(eq=False)
class Miner:
    """Chooses triplets from a batch, on the device of the embeddings, with an own random stream.

    second_negative: draw one for every triplet as well, uniformly, and return Quadruplets.
    one_per_anchor: whether an anchor comes at most once in a batch.
    positive_class, negative_class: the class of the rows drawn: 'same' as the anchor's, 'other' or
        'any'.
    adapts: whether `adapt` wants validation metrics during training.

    The arguments of a subclass are its annotated fields, as in a dataclass. One outside its range
    is a UsageError.
    """

    seed: int = 0

    second_negative = False
    one_per_anchor = True
    positive_class = "same"
    negative_class = "other"
    adapts = False

    def __init_subclass__(cls) -> None:
        with_arguments(cls, eq=False)

    def __post_init__(self) -> None:
        self.stream = RandomStream(self.seed)

    @torch.no_grad()
    def __call__(
        self, embedding: Tensor, label: Tensor, anchors: int | None = None
    ) -> Triplets | Quadruplets:
        """embedding (N, D), label (N,) -> Triplets; an anchor without a partner is left out.

        The first `anchors` rows (default: all) are anchors, all rows are their candidates. Half
        precision is mined in float32. Leaving anchors out fixes T, which on a GPU waits for the
        masks.
        """
        refuse_shapes("A miner compares", embedding, label)
        generator = self.stream.on(embedding.device)
        with torch.autocast(embedding.device.type, enabled=False):
            x = at_least_float32(embedding.detach())
            label = label.long()
            triplets = self.mine(x, label, generator, anchors)
            if not isinstance(triplets, Triplets):
                raise UsageError(f"{type(self).__name__}.mine gave a {type(triplets).__name__}: give "
                                 "batchminer.Triplets(anchor, positive, negative).")
            if not are_indices(triplets):
                raise UsageError(f"{type(self).__name__}.mine gave {', '.join(map(shown, triplets))}: give "
                                 "three tensors (T,) of type int64.")
            if self.second_negative:
                return add_second_negative(triplets, label, generator)
            return triplets

    def mine(
        self,
        x: Tensor,
        label: Tensor,
        generator: torch.Generator,
        anchors: int | None,
    ) -> Triplets:
        """The rule itself: rows x (N, D), label (N,); every draw comes from `generator`."""
        raise NotImplementedError(f"{type(self).__name__} has no method mine")

    def state_dict(self) -> dict:
        """The state of the random stream."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue drawing where `state_dict` was taken."""
        self.stream.load_state_dict(state)


def are_indices(triplets: Triplets) -> bool:
    """Whether they are whole numbers of one length; their values are not looked at."""
    if not all(isinstance(part, Tensor) and part.dtype == torch.long for part in triplets):
        return False
    return {part.shape for part in triplets} == {triplets.anchor.shape[:1]}


class ClassBlocks:
    """The rows of a batch in the order of their classes, so that "the k-th positive" is arithmetic.

    Draws uniformly with one random number a row, in O(N log N) and without a mask of A x N.
    positives, negatives: how many rows of its own class (itself left out) and of other classes an
    anchor has, (A,).
    """

    def __init__(self, label: Tensor, anchors: int | None = None):
        in_order, self.order = label.sort()  # (N,) each
        own = label[:anchors]  # (A,)
        self.row = torch.arange(len(own), device=label.device)  # (A,)
        # where each anchor's class begins and ends
        self.first = torch.searchsorted(in_order, own)  # (A,)
        end = torch.searchsorted(in_order, own, right=True)  # (A,)
        self.positives = end - self.first - 1  # (A,)
        self.negatives = len(label) - 1 - self.positives  # (A,)

    def positive(self, k: Tensor, anchor: Tensor | slice = slice(None)) -> Tensor:
        """The k-th other row of the anchor's class; the anchor where there is none.

        The last row of the class takes the anchor's own place.
        """
        first = self.first[anchor]
        row = self.order[first + k]
        last = self.order[first + self.positives[anchor]]
        return torch.where(row == self.row[anchor], last, row)

    def negative(self, k: Tensor, anchor: Tensor | slice = slice(None)) -> Tensor:
        """The k-th row of another class than the anchor's; any row where there is none."""
        after = k >= self.first[anchor]
        place = k + after * (self.positives[anchor] + 1)
        last = len(self.order) - 1
        return self.order[place.clamp(max=last)]

    def draw_positive(self, generator: torch.Generator) -> Tensor:
        """A uniformly random positive of every anchor, (A,); any row where `positives` is 0."""
        return self.positive(below(self.positives, generator))

    def draw_member(self, generator: torch.Generator) -> Tensor:
        """A uniformly random row of every anchor's class, the anchor among them, (A,)."""
        return self.order[self.first + below(self.positives + 1, generator)]

    def draw_two_positives(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two different positives, every ordered pair alike, (A,) each.

        Where `positives` is 1, the only one twice.
        """
        k = below(self.positives, generator)  # (A,)
        step = 1 + below(self.positives - 1, generator)  # (A,)
        other = (k + step) % self.positives.clamp(min=1)
        return self.positive(k), self.positive(other)


def below(count: Tensor, generator: torch.Generator) -> Tensor:
    """A uniformly random whole number from 0 to count - 1 for every count; 0 where it is 0."""
    u = torch.rand(count.shape, generator=generator, device=count.device, dtype=torch.float64)
    return (u * count).long()


def draw(
    mask: Tensor, generator: torch.Generator, logit: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One column of each row of the mask (A, N), and whether it is of the mask, (A,) each.

    Its probability is proportional to exp(logit) (default: uniform). A row without a true entry
    gives any column.
    Inverts the cumulative distribution: one random number a row. The softmax subtracts the largest
    logit, so that logits of thousands neither overflow nor lose the likely entries; what is 104
    nats (float32) below is never drawn.
    """
    if logit is None:
        weight = mask.float()
    else:
        weight = only(logit, mask).softmax(-1)
    cumulative = weight.cumsum(-1)  # (A, N)
    u = torch.rand(len(mask), 1, generator=generator, device=mask.device, dtype=weight.dtype)
    drawn = u * cumulative[:, -1:]  # (A, 1)
    column = torch.searchsorted(cumulative, drawn, right=True)  # (A, 1)
    last = mask.shape[-1] - 1
    column = column.clamp(max=last).squeeze(-1)  # (A,)
    return column, is_in(mask, column)


def is_in(mask: Tensor, column: Tensor) -> Tensor:
    """Whether the mask (A, N) is true at each row's column (A,)."""
    return mask.gather(-1, column[:, None]).squeeze(-1)  # (A,)


def admissible(keep: Tensor, positive: Tensor, negative: Tensor) -> Triplets:
    """The triplets of the anchors to keep; keep, positive and negative of all anchors (A,)."""
    anchor = keep.nonzero().squeeze(-1)  # (T,)
    return Triplets(anchor, positive[anchor], negative[anchor])


def add_second_negative(
    triplets: Triplets, label: Tensor, generator: torch.Generator
) -> Quadruplets:
    """Draw a row of a third class for every triplet, uniformly; drop triplets without one."""
    own = label[triplets.anchor, None]  # (T, 1)
    other = label[triplets.negative, None]  # (T, 1)
    third = (label != own) & (label != other)  # (T, N)
    second, found = draw(third, generator)  # (T,) each
    return Quadruplets(*(rows[found] for rows in (*triplets, second)))
