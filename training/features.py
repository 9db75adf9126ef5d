"""The features that a network has of images, batch by batch, without training."""
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from architectures.network import Network
from datasets import batches
from datasets.base import Draw
from datasets.loader import Loader
from utilities.bars import new_bar
from utilities.device import autocast


@torch.no_grad()
def features_of(network: Network, loader: Loader, rows: Tensor, *, views: int = 1, bs: int,
                amp: str, device: torch.device,
                desc: str) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Batch by batch: the view, the images' numbers among `rows` (B,), and features (B, F) on the CPU.

    Images are cropped as in training. The order in which `loader` gives its batches does not move.
    """
    parts = list(product(range(views), rows.split(bs)))
    order = []
    for view, part in parts:
        order.append([Draw(row, view, row) for row in part.tolist()])
    images = batches(loader.of_draws(order), device)
    was_training = network.training
    network.eval()
    bar = new_bar(zip(images, parts), total=len(parts), desc=desc, unit="batch")
    for batch, (view, part) in bar:
        with autocast(device, amp):
            feature = network(batch.image).feature
        yield view, part, feature.cpu()
    network.train(was_training)
