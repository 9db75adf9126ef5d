"""One training step: the loss sees the batch of all processes, and the backbone as many images at once as fit.

A loss over pairs needs every embedding of the batch, but its gradient reaches the backbone row by row. So the step cuts
the graph at the features: the head (relation, miner, losses) works on the features of the whole batch as leaves, and
what it finds as their gradient re-enters each process's own images, chunk by chunk where they do not fit at once
(GradCache: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021). The gradients
are those of one process with one large batch, whatever the number of processes and chunks.
"""
import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from architectures.network import Features, Network
from batchminer.base import Miner, Triplets
from criteria.lm_metric import LMMetric, LossTerms, Related
from datasets import Batch
from utilities import distributed
from utilities.device import autocast, full_precision
from utilities.seed import TorchRandomness


class Outcome(NamedTuple):
    """A step's loss terms (on the device), and what they were computed from: the batch of all processes."""

    terms: LossTerms
    related: Related
    label: Tensor
    index: Tensor
    triplets: Triplets | None


class Differentiator:
    """Computes the loss of a batch and adds its gradient to every parameter; behind the features in full float32,
    whatever the precision of the backbone.

    chunk: images that the backbone sees at once, 0: all of this process; with fewer than all, their features are
    computed twice, without and then with a graph, drawing alike. Batch norm that is not frozen takes its statistics
    from the chunk. amp, scaler: mixed precision of the backbone, as in `autocast`, and the scale of the loss.
    """

    def __init__(self, network: Network, method: LMMetric, miner: Miner | None, *, amp: str = "none",
                 scaler: torch.amp.GradScaler | None = None, chunk: int = 0):
        self.network, self.method, self.miner, self.amp, self.chunk = network, method, miner, amp, chunk
        self.scaler = scaler or torch.amp.GradScaler(enabled=False)

    def __call__(self, batch: Batch) -> Outcome:
        """Gradients for this process's share of the batch, image (B, 3, H, W), label (B,), index (B,)."""
        chunks = batch.image.split(self.chunk or len(batch.image))
        states, own = self.embed(chunks)
        whole = Features(*(distributed.gathered(part.detach()).requires_grad_() for part in own))    # (world * B, .)
        label, index = distributed.gathered(batch.label), distributed.gathered(batch.index)
        with full_precision(label.device):
            related = self.method.relate(self.network, whole)                          # relate
            triplets = self.miner(related.z, label) if self.miner else None            # mine
            terms = self.method(self.network, whole, related, label, index, triplets)  # weigh, compare, remember
            self.scaler.scale(terms["total"]).backward()
        rows = slice(distributed.rank() * len(batch.label), (distributed.rank() + 1) * len(batch.label))
        gradient = Features(*(None if part.grad is None else part.grad[rows] for part in whole))
        with self.shared_gradients():
            if len(chunks) == 1:
                differentiate(own, gradient)
            else:
                self.re_enter(chunks, states, gradient)
        distributed.mean_([statistic for norm in learning_norms(self.network)      # else each process had its own
                           for statistic in (norm.running_mean, norm.running_var)])
        return Outcome(terms, related, label, index, triplets)

    def embed(self, chunks: tuple[Tensor, ...]) -> tuple[list[TorchRandomness], Features]:
        """The features of this process's images: with their graph where they are one chunk; otherwise without, and the
        random state before each chunk."""
        if len(chunks) == 1:
            return [], self.features(chunks[0])
        states, found = [], []
        with torch.no_grad(), statistics_kept(self.network):
            for chunk in chunks:
                states.append(TorchRandomness.now(chunk.device))
                found.append(self.features(chunk))
        return states, Features(*(torch.cat(parts) for parts in zip(*found)))

    def re_enter(self, chunks: tuple[Tensor, ...], states: list[TorchRandomness], gradient: Features) -> None:
        """Compute the features of each chunk again, now with a graph, and send their rows of the gradient through it;
        randomness continues behind the first pass."""
        device, start = chunks[0].device, 0
        after = TorchRandomness.now(device)
        for chunk, state in zip(chunks, states):
            state.restore(device)
            part = slice(start, start + len(chunk))
            differentiate(self.features(chunk), Features(*(g if g is None else g[part] for g in gradient)))
            start += len(chunk)
        after.restore(device)

    def features(self, image: Tensor) -> Features:
        """(B, 3, H, W) -> Features in float32, the backbone in mixed precision."""
        with autocast(image.device, self.amp):
            return self.network(image)

    @contextlib.contextmanager
    def shared_gradients(self) -> Iterator[None]:
        """What backward passes inside give differs from process to process and is added up; what is there before, from
        the head, is the same in all and counts once."""
        if distributed.world() == 1:
            yield
            return
        head = [p for module in (self.network, self.method) for p in module.parameters() if p.grad is not None]
        distributed.mean_([p.grad for p in head])
        kept = {p: p.grad for p in head}
        for p in head:
            p.grad = None
        yield
        own = [p for p in self.network.parameters() if p.grad is not None]
        distributed.sum_([p.grad for p in own])
        for p, gradient in kept.items():
            p.grad = gradient if p.grad is None else p.grad.add_(gradient)


def differentiate(features: Features, gradient: Features) -> None:
    """Add what `gradient`, that of the loss with respect to the features, gives to the parameters behind them."""
    used = [(part, g) for part, g in zip(features, gradient) if g is not None and part.requires_grad]
    torch.autograd.backward(*map(list, zip(*used)))


@contextlib.contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch norm works as it does in training but learns no statistics, which the second pass will do."""
    learning = learning_norms(network)
    for module in learning:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in learning:
            module.track_running_stats = True


def learning_norms(network: nn.Module) -> list[nn.Module]:
    """The batch norms whose statistics move with every batch."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.training and module.track_running_stats]
