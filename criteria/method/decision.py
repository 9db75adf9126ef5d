"""What the policy says of a batch: a distribution over actions, and actions drawn from it."""
from typing import NamedTuple

import torch
from torch import Tensor

from utilities.seed import RandomStream


class Actions(NamedTuple):
    """K actions of each of N deciders (N = 1: the batch; N = B: every anchor), (K, N) indices into the two grids."""

    positive: Tensor
    negative: Tensor


class Decision(NamedTuple):
    """Log-probabilities of the actions on both grids, positive (N, G+) and negative (N, G-), of N deciders."""

    positive: Tensor
    negative: Tensor

    def log_prob(self, actions: Actions) -> Tensor:
        """log pi of the joint action, (K, N)."""
        both = [log_p.gather(1, action.T).T for log_p, action in zip(self, actions)]
        return torch.stack(both, -1).sum(-1)  # (K, N)

    def entropy(self) -> Tensor:
        """Mean entropy in nats of each sign over the deciders, (2,)."""
        entropies = [-(log_p.exp() * log_p).sum(-1) for log_p in self]
        return torch.stack(entropies, -1).mean(0)  # (2,)

    def probability(self) -> list[Tensor]:
        """Mean probability of every action over the deciders, (G+) and (G-)."""
        return [log_p.detach().exp().mean(0) for log_p in self]

    def draw(self, number: int, stream: RandomStream) -> Actions:
        """`number` independent actions of every decider, (K, N) each.

        Two are drawn where one is asked for: a single draw would make the host wait for a check of the probabilities.
        Of non-finite probabilities any action is drawn, so that the guard of the loss can tell where they came from.
        """
        generator = stream.on(self.positive.device)
        draws = []
        for log_p in self:
            chance = log_p.detach().exp().nan_to_num(nan=1.0)  # (N, G)
            drawn = torch.multinomial(chance, max(number, 2), replacement=True, generator=generator)
            draws.append(drawn.T[:number])  # (K, N)
        return Actions(*draws)

    def mode(self) -> Actions:
        """The most likely action, (1, N)."""
        return Actions(*(log_p.argmax(-1)[None] for log_p in self))

    def permuted(self, order: Tensor) -> "Decision":
        """The decisions of the deciders `order` (N)."""
        return Decision(self.positive[order], self.negative[order])
