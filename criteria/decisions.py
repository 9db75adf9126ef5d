"""What a policy decides on one batch: distributions over actions, by deciders (the batch, its anchors or its pairs)."""
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import pad

LOG_SPREAD = (-3.0, 1.0)                                   # limits of a normal distribution's log standard deviation


class Actions(NamedTuple):
    """K actions for each of N deciders (N = 1: the batch; B: every anchor; B B: every pair), (K, N) each: indices into
    the two grids, or real numbers where the action is continuous."""

    positive: Tensor
    negative: Tensor


@dataclass(frozen=True)
class Decision:
    """Log-probabilities of the two grids, (N, A+) and (N, A-).

    applies: which of the two signs a decider acts on, (N, 2), where it is not both: a pair has one sign.
    """

    positive: Tensor
    negative: Tensor
    applies: Tensor | None = None

    @property
    def signs(self) -> tuple[Tensor, Tensor]:
        """The parameters of both signs."""
        return self.positive, self.negative

    def log_prob(self, actions: Actions) -> Tensor:
        """log pi of the joint action, (K, N)."""
        return self._joint(p.gather(1, a.T).T for p, a in zip(self.signs, actions))

    def entropy(self) -> Tensor:
        """Entropy in nats of the two distributions, (N, 2)."""
        return torch.stack([-(p.exp() * p).sum(-1) for p in self.signs], -1)

    def mean_entropy(self) -> Tensor:
        """Mean entropy in nats of each sign over the deciders that act on it, (2,)."""
        return torch.stack([self._mean(rows[:, None], sign)[0] for sign, rows in enumerate(self.entropy().unbind(-1))])

    def probability(self) -> list[Tensor]:
        """Mean probability of every action over the deciders that act on its sign, (A+) and (A-)."""
        return [self._mean(p.detach().exp(), sign) for sign, p in enumerate(self.signs)]

    def draw(self, number: int, generator: torch.Generator) -> Actions:
        """`number` independent actions of every decider. Two are drawn where one is asked for: a single draw would make
        the host wait for a check of the probabilities. Of probabilities that are no numbers any action is drawn, so
        that whoever watches the loss can tell where they came from."""
        draws, chances = max(number, 2), [p.detach().exp().nan_to_num(nan=1.0) for p in self.signs]
        return Actions(*(torch.multinomial(chance, draws, replacement=True, generator=generator).T[:number]
                         for chance in chances))

    def mode(self) -> Actions:
        """The most likely action, (1, N)."""
        return Actions(*(p.argmax(-1)[None] for p in self.signs))

    def permuted(self, order: Tensor) -> "Decision":
        """The decisions of the deciders `order` (N)."""
        return replace(self, positive=self.positive[order], negative=self.negative[order])

    def _joint(self, log_probs: Iterable[Tensor]) -> Tensor:
        """Sum of the two signs' log-probabilities (K, N), without those of a sign that a decider does not act on."""
        both = torch.stack(list(log_probs), -1)                                    # (K, N, 2)
        return (both if self.applies is None else both.masked_fill(~self.applies, 0)).sum(-1)

    def _mean(self, rows: Tensor, sign: int) -> Tensor:
        """Mean of rows (N, M) over the deciders that act on a sign, (M,)."""
        if self.applies is None:
            return rows.mean(0)
        applies = self.applies[:, sign, None]                                      # (N, 1)
        return (rows * applies).sum(0) / applies.sum().clamp(min=1)


@dataclass(frozen=True)
class NormalDecision(Decision):
    """Normal distributions of two continuous actions: mean, and a number that sets the standard deviation, (N, 2) each.

    That number is bent into LOG_SPREAD by a tanh, zero meaning a spread of one: at a hard limit it would lose its
    gradient and stay there.
    grids: the actions (A+) and (A-) whose neighbourhoods `probability` reports.
    """

    grids: tuple[Tensor, Tensor] = ()

    @property
    def normals(self) -> list[Normal]:
        """The distributions of the two signs, over N deciders; a check of their values would make the host wait."""
        centre, reach = (LOG_SPREAD[1] + LOG_SPREAD[0]) / 2, (LOG_SPREAD[1] - LOG_SPREAD[0]) / 2
        start = math.atanh(-centre / reach)
        return [Normal(p[:, 0], (centre + reach * (p[:, 1] + start).tanh()).exp(), validate_args=False)
                for p in self.signs]

    def log_prob(self, actions: Actions) -> Tensor:
        """log density of the joint action, (K, N)."""
        return self._joint(normal.log_prob(a) for normal, a in zip(self.normals, actions))

    def entropy(self) -> Tensor:
        """Differential entropy in nats of the two distributions, (N, 2)."""
        return torch.stack([normal.entropy() for normal in self.normals], -1)

    def probability(self) -> list[Tensor]:
        """Mean probability that the action is nearest to each value of the grids, (A+) and (A-)."""
        found = []
        for sign, (normal, grid) in enumerate(zip(self.normals, self.grids)):
            below = normal.cdf((grid[1:] + grid[:-1])[:, None] / 2).T.detach()     # (N, A - 1)
            found.append(self._mean(pad(below, (0, 1), value=1.0) - pad(below, (1, 0)), sign))
        return found

    def draw(self, number: int, generator: torch.Generator) -> Actions:
        """`number` independent actions of every decider."""
        noise = [torch.randn(number, len(p), generator=generator, dtype=p.dtype, device=p.device) for p in self.signs]
        return Actions(*((normal.mean + normal.stddev * e).detach() for normal, e in zip(self.normals, noise)))

    def mode(self) -> Actions:
        """The most likely action, (1, N)."""
        return Actions(*(p[:, 0].detach()[None] for p in self.signs))
