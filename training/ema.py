"""Averaged weights: what is evaluated and saved is the mean of the weights along the way, not the last of them."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """The exponential moving average of a network's weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

    After step n: a_n = sum_k d^(n-k) w_k / sum_k d^(n-k), k = 1..n, d the decay; computed as a += (w - a) (1 - d) /
    (1 - d^n). Deviation: the usual a = d a + (1 - d) w counts the initial weights too, which the sum of the weights
    here leaves out, as Adam does for its moments, so that short runs are averages of what they learned. Buffers (batch
    norm statistics, random states) are not averaged: they are those of the network.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = network
        self.decay = decay
        self.updates = 0
        self.average = self._own_weights()

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step; no synchronisation."""
        self.updates += 1
        share = (1 - self.decay) / (1 - self.decay ** self.updates)
        torch._foreach_lerp_(list(self.average.values()), list(_named(self.network).values()), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the network has the averaged weights; after it its own, bit for bit."""
        own = self._own_weights()
        self._set(self.average)
        try:
            yield
        finally:
            self._set(own)

    def network_state(self) -> dict[str, Tensor]:
        """The network's state dict with the averaged weights: what a checkpoint holds as its network."""
        return self.network.state_dict() | self.average

    def state_dict(self) -> dict:
        """What a checkpoint holds beside `network_state`: the network's own weights, and how many were averaged.

        Not to be called inside `in_place`.
        """
        return {"updates": self.updates, "own": _named(self.network)}

    def load_state_dict(self, state: dict) -> None:
        """Continue where both were taken; the network has loaded `network_state`, and gets its own weights back."""
        self.updates = state["updates"]
        self.average = self._own_weights()
        self._set(state["own"])

    def _own_weights(self) -> dict[str, Tensor]:
        return {name: p.clone() for name, p in _named(self.network).items()}

    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, p in _named(self.network).items():
            p.copy_(weights[name])


def _named(network: nn.Module) -> dict[str, Tensor]:
    """The weights by all names that a state dict has for them: those of tied ones too."""
    return {name: p.detach() for name, p in network.named_parameters(remove_duplicate=False)}
