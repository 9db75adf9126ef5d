"""The gain of a policy on classes that it does not train on: batches like those of training."""
import itertools

import torch
from torch.utils.data import DataLoader

from architectures.network import Network
from batchminer.base import Miner
from criteria.method import LMMetric
from criteria.method.health import held_out_advantage
from datasets import batches, samplers
from utilities.device import full_precision

COLUMNS = ("held_out_advantage", "held_out_advantage_error")  # of metrics.csv and steps.csv
BATCHES = 5  # of an evaluation while training


def policy_gain(method: LMMetric, network: Network, loader: DataLoader, miner: Miner | None,
                device: torch.device, *, bs: int, samples_per_class: int, seed: int,
                at_most: int | None = None) -> dict | None:
    """`held_out_advantage` on at most so many batches of the loader's images.

    The batches are the same at each call with a new miner; bs is that of training, and fewer images
    make smaller batches. None where there is no policy, no whole batch, or a loss that has
    parameters of its own classes.
    """
    images = loader.dataset.images
    classes = min(len(images.class_names), len(images.labels) // samples_per_class,
                  bs // samples_per_class)
    if not method.learns or not classes or method.base.is_class_specific():
        return None
    sampler = samplers.select("class_random", labels=images.labels, bs=classes * samples_per_class,
                              seed=seed, samples_per_class=samples_per_class)
    with full_precision(device):
        some = itertools.islice(batches(loader.drawn_by(sampler, seed), device), at_most)
        return held_out_advantage(method, network, miner, some, device)


def columns(gain: dict | None) -> dict:
    """COLUMNS of what policy_gain measured."""
    return dict(zip(COLUMNS, (gain["mean"], gain["standard_error"]))) if gain else {}
