"""What a policy is worth on classes that it does not train on: batches like those of training, of other images."""
import itertools

import torch
from torch.utils.data import DataLoader

from architectures.network import Network
from batchminer.base import Miner
from criteria.lm_metric import LMMetric
from criteria.policy_health import held_out_advantage
from datasets import batches, make_loader, samplers
from utilities.device import full_precision

COLUMNS = ("held_out_advantage", "held_out_advantage_error")   # of metrics.csv and steps.csv
BATCHES = 5                                                    # that an evaluation looks at


def policy_worth(method: LMMetric, network: Network, loader: DataLoader, miner: Miner | None, device: torch.device, *,
                 bs: int, samples_per_class: int, seed: int, at_most: int | None = None) -> dict | None:
    """`held_out_advantage` on at most so many batches of the loader's images, the same ones at each call with a miner
    as new; None where there is no policy, no whole batch, or a loss that knows its own classes only.

    bs is what training has; fewer images than that make smaller batches.
    """
    images = loader.dataset.images
    groups = min(len(images.class_names), len(images.labels) // samples_per_class, bs // samples_per_class)
    if not method.learns or not groups or method.base.knows_its_classes_only():
        return None
    sampler = samplers.select("class_random", labels=images.labels, bs=groups * samples_per_class, seed=seed,
                              samples_per_class=samples_per_class)
    made = make_loader(images, loader.dataset.transform, batch_sampler=sampler, workers=0, seed=seed,
                       cache=loader.dataset.cache)
    with full_precision(device):
        return held_out_advantage(method, network, miner, itertools.islice(batches(made, device), at_most), device)


def columns(worth: dict | None) -> dict:
    """COLUMNS of what policy_worth found."""
    return dict(zip(COLUMNS, (worth["mean"], worth["standard_error"]))) if worth else {}
