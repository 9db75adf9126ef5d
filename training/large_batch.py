"""A step for batches that one pass of one process cannot hold: in chunks (--accumulate), or over several processes.

A loss over pairs needs every embedding of the batch, but its gradient reaches the backbone row by row. So the graph is
cut at the features: the head (relation, miner, losses) works on the features of the whole batch as leaves, and their
gradient is then sent through the backbone for each process's own images, chunk by chunk (GradCache: Gao et al.,
"Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021). The gradients are those of one process
with one large batch, whatever the number of processes and chunks.
"""
import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from architectures.network import Features, Network
from batchminer.base import Miner, Triplets
from criteria.method import LMMetric, LossTerms, Related
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


class LargeBatchStep:
    """Takes the place of embed, relate, mine, loss and backward of main.train, with the same gradients.

    chunk: most images that the backbone sees at once, 0: all of this process. With fewer than all, their features are
        computed twice, without and then with a graph, drawing alike. Batch norm that is not frozen takes its statistics
        from the chunk.
    amp, scaler: mixed precision of the backbone, as in `autocast`, and the scale of the loss.
    """

    def __init__(self, network: Network, method: LMMetric, miner: Miner | None, *, amp: str = "none",
                 scaler: torch.amp.GradScaler | None = None, chunk: int = 0):
        self.network = network
        self.method = method
        self.miner = miner
        self.amp = amp
        self.scaler = scaler or torch.amp.GradScaler(enabled=False)
        self.chunk = chunk

    def __call__(self, batch: Batch) -> Outcome:
        """Gradients for this process's share of the batch, image (B, 3, H, W), label (B,), index (B,)."""
        images = len(batch.image)
        # of about one size: batch norm learns nothing from a last image that is left over
        chunks = batch.image.tensor_split(math.ceil(images / (self.chunk or images)))
        states, own = self.embed(chunks)
        gathered = [distributed.gather_rows(part.detach()) for part in own]  # (world * B, .)
        features = Features(*(part.requires_grad_() for part in gathered))
        label = distributed.gather_rows(batch.label)
        index = distributed.gather_rows(batch.index)
        with full_precision(label.device):
            related = self.method.relate(self.network, features)
            triplets = self.miner(related.z, label) if self.miner else None
            terms = self.method(self.network, features, related, label, index, triplets)
            self.scaler.scale(terms["total"]).backward()
        gradient = own_rows(features, len(batch.label))
        with self.shared_gradients():
            if len(chunks) == 1:
                backward(own, gradient)
            else:
                self.backward_in_chunks(chunks, states, gradient)
        # else each process would have its own
        statistics = [x for norm in learning_norms(self.network) for x in (norm.running_mean, norm.running_var)]
        distributed.mean_in_place(statistics)
        return Outcome(terms, related, label, index, triplets)

    def embed(self, chunks: tuple[Tensor, ...]) -> tuple[list[TorchRandomness], Features]:
        """The features of this process's images: with their graph where they are one chunk; otherwise without, and the
        random state before each chunk."""
        if len(chunks) == 1:
            return [], self.features(chunks[0])
        states = []
        parts = []
        with torch.no_grad(), fixed_statistics(self.network):
            for chunk in chunks:
                states.append(TorchRandomness.now(chunk.device))
                parts.append(self.features(chunk))
        return states, Features(*map(torch.cat, zip(*parts)))

    def backward_in_chunks(self, chunks: tuple[Tensor, ...], states: list[TorchRandomness],
                           gradient: Features) -> None:
        """Compute the features of each chunk again, now with a graph, and send their rows of the gradient through it;
        randomness continues behind the first pass."""
        device = chunks[0].device
        after = TorchRandomness.now(device)
        start = 0
        for chunk, state in zip(chunks, states):
            state.restore(device)
            rows = slice(start, start + len(chunk))
            backward(self.features(chunk), Features(*(g if g is None else g[rows] for g in gradient)))
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
        parameters = [*self.network.parameters(), *self.method.parameters()]
        head = [p for p in parameters if p.grad is not None]
        distributed.mean_in_place([p.grad for p in head])
        kept = {p: p.grad for p in head}
        for p in head:
            p.grad = None
        yield
        distributed.sum_in_place([p.grad for p in self.network.parameters() if p.grad is not None])
        for p, gradient in kept.items():
            p.grad = gradient if p.grad is None else p.grad.add_(gradient)


def own_rows(features: Features, number: int) -> Features:
    """The gradient of features of all processes, the rows of this one; None for a part that has none."""
    start = distributed.rank() * number
    rows = slice(start, start + number)
    return Features(*(None if part.grad is None else part.grad[rows] for part in features))


def backward(features: Features, gradient: Features) -> None:
    """Add what `gradient`, that of the loss with respect to the features, gives to the parameters behind them."""
    pairs = [(part, g) for part, g in zip(features, gradient) if g is not None and part.requires_grad]
    if pairs:
        torch.autograd.backward(*zip(*pairs))


@contextlib.contextmanager
def fixed_statistics(network: nn.Module) -> Iterator[None]:
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
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.training and norm.track_running_stats]
