"""Policy and context on classes that do not train: batches like those of training."""
import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from architectures.network import Network
from batchminer.base import Miner
from criteria.method import LMMetric
from criteria.method.context_health import has_health, held_out_context
from criteria.method.health import held_out_advantage
from datasets import batches, samplers
from datasets.base import Batch
from utilities.device import full_precision

PREFIX = "held_out_"  # of the columns of metrics.csv and steps.csv
CONTEXT = f"{PREFIX}context_"
BATCHES = 5  # of an evaluation while training


def fixed_batches(loader: DataLoader, device: torch.device, *, bs: int, samples_per_class: int,
                  seed: int, at_most: int | None = None) -> Iterator[Batch] | None:
    """At most so many batches of the loader's images, the same at each call.

    bs is that of training, and fewer images make smaller batches. None without a whole batch.
    """
    images = loader.dataset.images
    classes = min(len(images.class_names), len(images.labels) // samples_per_class,
                  bs // samples_per_class)
    if not classes:
        return None
    sampler = samplers.select("class_random", labels=images.labels, bs=classes * samples_per_class,
                              seed=seed, samples_per_class=samples_per_class)
    return itertools.islice(batches(loader.drawn_by(sampler, seed), device), at_most)


def policy_gain(method: LMMetric, network: Network, loader: DataLoader, miner: Miner | None,
                device: torch.device, **batching) -> dict | None:
    """`held_out_advantage` on `fixed_batches`, with a new miner the same at each call.

    None where there is no policy, no whole batch, or a loss that has parameters of its own classes.
    """
    if not method.learns or method.base.is_class_specific():
        return None
    some = fixed_batches(loader, device, **batching)
    if some is None:
        return None
    with full_precision(device):
        return held_out_advantage(method, network, miner, some, device)


def context_health(method: LMMetric, network: Network, loader: DataLoader, device: torch.device,
                   **batching) -> dict:
    """`held_out_context` on `fixed_batches`; empty without them, or where no context is decoded."""
    some = fixed_batches(loader, device, **batching) if has_health(network) else None
    if some is None:
        return {}
    with full_precision(device):
        return held_out_context(method, network, some, device)


def columns(gain: dict | None, context: dict) -> dict:
    """The columns of what `policy_gain` and `context_health` measured."""
    values = dict(context)
    if gain:
        values |= {"advantage": gain["mean"], "advantage_error": gain["standard_error"]}
    return {PREFIX + name: value for name, value in values.items()}
