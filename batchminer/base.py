"""The contract of every miner, and the few ways in which they draw."""
from typing import NamedTuple

import torch
from torch import Tensor

from utilities.seed import RandomStream

BEYOND = 1e9                                               # nats: what is so much less likely has no chance at all


class Triplets(NamedTuple):
    """Indices into the batch: T anchors, each with one positive and one negative; T may be 0."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class Quadruplets(NamedTuple):
    """Triplets with a second negative, whose class is neither the anchor's nor that of the first negative."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    second_negative: Tensor


class Miner:
    """Chooses triplets from a batch, on the device of the embeddings, with a random stream of its own.

    second_negative: draw one for every triplet as well, uniformly, and return Quadruplets.
    one_per_anchor: whether an anchor comes at most once in a batch.
    positive_class, negative_class: the class of the rows drawn, 'same' as the anchor's, 'other' or 'any'.
    adapts: whether `adapt` wants validation metrics during training.
    """

    second_negative = False
    one_per_anchor = True
    positive_class = "same"
    negative_class = "other"
    adapts = False

    def __init__(self, seed: int = 0):
        self.stream = RandomStream(seed)

    @torch.no_grad()
    def __call__(self, embedding: Tensor, label: Tensor, anchors: int | None = None) -> Triplets | Quadruplets:
        """embedding (N, D), label (N,) -> Triplets; an anchor with no admissible partner is left out.

        The first `anchors` rows (default: all) are anchors, all rows are their candidates. Half precision is mined in
        float32. Leaving anchors out fixes T, which on a GPU waits for the masks.
        """
        x = embedding.detach()
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            generator = self.stream.on(x.device)
            triplets = self.mine(x, label, generator, anchors)
            return add_second_negative(triplets, label, generator) if self.second_negative else triplets

    def mine(self, embedding: Tensor, label: Tensor, generator: torch.Generator, anchors: int | None) -> Triplets:
        """The rule itself; every draw comes from `generator`."""
        raise NotImplementedError

    def state_dict(self) -> dict:
        """The state of the random stream."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue drawing where `state_dict` was taken."""
        self.stream.load_state_dict(state)


class ClassBlocks:
    """The rows of a batch in the order of their classes, which turns "the k-th positive" into arithmetic.

    Draws uniformly with one random number a row, in O(N log N) and without a mask of A x N.
    positives, negatives: how many rows of its own class (itself left out) and of other classes an anchor has, (A,).
    """

    def __init__(self, label: Tensor, anchors: int | None = None):
        in_order, self.order = label.sort()  # (N,) each
        own = label[:anchors]  # (A,)
        self.row = torch.arange(len(own), device=label.device)  # (A,)
        self.first = torch.searchsorted(in_order, own)  # (A,) where its class begins
        self.positives = torch.searchsorted(in_order, own, right=True) - self.first - 1  # (A,)
        self.negatives = len(label) - 1 - self.positives  # (A,)

    def positive(self, k: Tensor, anchor: Tensor | slice = slice(None)) -> Tensor:
        """The k-th other row of the anchor's class, in an order in which its last row takes the anchor's own place;
        the anchor where there is none."""
        first = self.first[anchor]
        row, last = self.order[first + k], self.order[first + self.positives[anchor]]
        return torch.where(row == self.row[anchor], last, row)

    def negative(self, k: Tensor, anchor: Tensor | slice = slice(None)) -> Tensor:
        """The k-th row of another class than the anchor's; an arbitrary row where there is none."""
        after = k >= self.first[anchor]
        return self.order[(k + after * (self.positives[anchor] + 1)).clamp(max=len(self.order) - 1)]

    def draw_positive(self, generator: torch.Generator) -> Tensor:
        """A uniformly random positive of every anchor, (A,); arbitrary where `positives` is 0."""
        return self.positive(below(self.positives, generator))

    def draw_two_positives(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two different ones, every ordered pair alike, (A,) each; the only one twice where `positives` is 1."""
        k = below(self.positives, generator)  # (A,)
        other = (k + 1 + below(self.positives - 1, generator)) % self.positives.clamp(min=1)
        return self.positive(k), self.positive(other)


def below(count: Tensor, generator: torch.Generator) -> Tensor:
    """A uniformly random whole number from 0 to count - 1 for every count, of its shape; 0 where the count is 0."""
    u = torch.rand(count.shape, generator=generator, device=count.device, dtype=torch.float64)
    return (u * count).long()


def draw(mask: Tensor, generator: torch.Generator, logit: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One column of each row of the mask, with probability proportional to exp(logit) (default: uniform), and
    whether the column is of the mask, which it is unless the row has none; (A,) each.

    Inverts the cumulative distribution: one random number a row. The softmax subtracts the largest logit, so that
    logits of thousands neither overflow nor lose the likely entries; what is 104 nats (float32) below is never drawn.
    """
    weight = mask.float() if logit is None else logit.masked_fill(~mask, torch.finfo(logit.dtype).min / 2).softmax(-1)
    cumulative = weight.cumsum(-1)  # (A, N)
    u = torch.rand(len(mask), 1, generator=generator, device=mask.device, dtype=weight.dtype)
    column = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True).clamp(max=mask.shape[-1] - 1)  # (A, 1)
    return column.squeeze(-1), is_in(mask, column.squeeze(-1))


def is_in(mask: Tensor, column: Tensor) -> Tensor:
    """Whether the mask (A, N) is true at each row's column (A,)."""
    return mask.gather(-1, column[:, None]).squeeze(-1)  # (A,)


def admissible(keep: Tensor, positive: Tensor, negative: Tensor) -> Triplets:
    """The triplets of the anchors to keep (A,), given each anchor's positive (A,) and negative (A,)."""
    anchor = keep.nonzero().squeeze(-1)  # (T,)
    return Triplets(anchor, positive[anchor], negative[anchor])


def add_second_negative(triplets: Triplets, label: Tensor, generator: torch.Generator) -> Quadruplets:
    """Draw a row of a third class for every triplet, uniformly; triplets for which there is none are dropped."""
    own, other = label[triplets.anchor, None], label[triplets.negative, None]  # (T, 1) each
    second, found = draw((label != own) & (label != other), generator)  # (T,) each, from a mask (T, N)
    return Quadruplets(*(t[found] for t in (*triplets, second)))
