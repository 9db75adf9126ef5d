"""The contract of every miner, and the one way in which they draw."""
from typing import NamedTuple

import torch
from torch import Tensor

from utilities.seed import RandomStream


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
    """

    second_negative = False

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


def draw(mask: Tensor, generator: torch.Generator, logit: Tensor | None = None) -> Tensor:
    """One column of each row of the mask, with probability proportional to exp(logit) (default: uniform), (B,).

    Uniform: the largest of uniform numbers. Else the Gumbel-max trick, the largest of logit - log(-log u): it never
    normalises, so probabilities hundreds of orders of magnitude apart are drawn without underflow, and never leaves
    the mask. A row with no entry gets an arbitrary column, which `admissible` drops.
    """
    u = torch.rand(mask.shape, generator=generator, device=mask.device)            # (A, N)
    score = u if logit is None else logit - (-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()
    return score.masked_fill(~mask, -torch.inf).argmax(-1)                         # (B,)


def admissible(keep: Tensor, positive: Tensor, negative: Tensor) -> Triplets:
    """The triplets of the anchors to keep (B,), given each anchor's positive (B,) and negative (B,)."""
    anchor = keep.nonzero().squeeze(-1)                                            # (T,)
    return Triplets(anchor, positive[anchor], negative[anchor])


def add_second_negative(triplets: Triplets, label: Tensor, generator: torch.Generator) -> Quadruplets:
    """Draw a row of a third class for every triplet, uniformly; triplets for which there is none are dropped."""
    own, other = label[triplets.anchor, None], label[triplets.negative, None]      # (T, 1) each
    third = (label != own) & (label != other)                                      # (T, N)
    keep = third.any(-1)                                                           # (T,)
    second = draw(third, generator)                                                # (T,)
    return Quadruplets(*(t[keep] for t in (*triplets, second)))
