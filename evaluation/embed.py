"""Embeddings of a whole set of images."""
import torch
from torch import Tensor
from tqdm import tqdm

from datasets import batches


@torch.no_grad()
def embed(network, loader, device: torch.device, description: str = "embed") -> tuple[Tensor, Tensor]:
    """Unit embeddings (N, D) in float32 and labels (N,) of a loader's images, on the CPU, in the data set's order.

    Row i depends on image i alone; the network's mode is left as it was.
    """
    size = len(loader.dataset)
    rows, labels = torch.empty(size, network.embed_dim), torch.empty(size, dtype=torch.long)
    for batch in tqdm(batches(loader), total=len(loader), desc=description, unit="batch", leave=False):
        found = network.embed(batch.image.to(device, non_blocking=True), batch.index.to(device))
        rows[batch.index], labels[batch.index] = found.float().cpu(), batch.label
    return rows, labels
