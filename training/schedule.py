"""Learning rates as a function of the step alone: a run that is continued needs no more than its step."""
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """rate(r, t) of step t from 1, for an initial rate r; n is the number of steps in an epoch.

    'step', 'multistep': r gamma^k, k the number of entries of `tau` among the epochs that have passed, floor((t-1)/n).
    'cosine' (Loshchilov & Hutter, "SGDR", 2017, without restarts): r (m + (1 - m) (1 + cos(pi p)) / 2), with m =
    `lr_min` and p in [0, 1] the share of the steps behind the warm-up that has passed.
    'none': r.
    Each times min(1, t / (n warmup_epochs)), a linear warm-up.
    """

    kind: str
    epoch_steps: int
    n_epochs: int
    tau: Sequence[int] = ()
    gamma: float = 1.0
    lr_min: float = 0.0
    warmup_epochs: float = 0.0

    def rate(self, initial: float, step: int) -> float:
        """The learning rate of a step, from 1."""
        passed = (step - 1) / self.epoch_steps                                     # epochs
        warming = step < self.warmup_epochs * self.epoch_steps
        factor = step / (self.warmup_epochs * self.epoch_steps) if warming else 1.0
        if self.kind in ("step", "multistep"):
            return factor * self._stepped(initial, passed)
        return factor * initial * (self._cosine(passed) if self.kind == "cosine" else 1.0)

    def _stepped(self, rate: float, passed: float) -> float:
        """One factor after the other, as schedulers that step along multiply: the same digits as theirs."""
        for epoch, times in sorted(Counter(self.tau).items()):
            rate *= self.gamma ** times if epoch <= passed else 1.0
        return rate

    def _cosine(self, passed: float) -> float:
        share = max(0.0, passed - self.warmup_epochs) / (self.n_epochs - self.warmup_epochs)
        return self.lr_min + (1 - self.lr_min) * (1 + math.cos(math.pi * share)) / 2
