"""A projection that starts from the backbone's own similarities."""
import torch
from torch import Tensor

from architectures.network import Network
from datasets.loader import Loader
from training import resume
from training.features import features_of
from utilities import distributed
from utilities.ranges import NO_PROJECTION

# of training images that show where features vary
IMAGES = 10_000


def start_projection(opt, network: Network, loader: Loader, device: torch.device) -> None:
    """As --projection_init says. A network that was trained before keeps its own."""
    trained = opt.checkpoint or resume.checkpoint_of(opt)
    if opt.projection_init == "pca" and opt.embed_dim != NO_PROJECTION and not trained:
        start_from_components(network, loader, bs=opt.bs, amp=opt.amp, device=device)


@torch.no_grad()
def start_from_components(network: Network, loader: Loader, *, bs: int, amp: str, device: torch.device) -> None:
    """Let the projection's rows be the principal components of the training images' features.

    Similarities of embeddings are then nearly those of features (Eckart and Young, 1936), while a
    random projection loses some. The weight keeps the norm that PyTorch gave it, so that a learning
    rate means the same. Rows beyond the feature's length stay random.
    """
    feature = training_features(network, loader, bs=bs, amp=amp, device=device)  # (N, F)
    components = principal_components(feature)[:network.embed_dim]
    projection = network.projection
    scale = projection.weight.norm() / len(projection.weight) ** 0.5
    projection.weight[:len(components)] = scale * components.to(projection.weight)
    projection.bias.zero_()
    distributed.mean_in_place([projection.weight])


def training_features(network: Network, loader: Loader, *, bs: int, amp: str, device: torch.device) -> Tensor:
    """Features (N, F) of up to IMAGES training images, evenly spaced, as an epoch would crop them."""
    size = len(loader.dataset)
    count = min(IMAGES, size)
    chosen = torch.arange(count) * size // count
    found = features_of(network, loader, chosen, bs=bs, amp=amp, device=device, desc="components")
    return torch.cat([feature for _, _, feature in found])


def principal_components(row: Tensor) -> Tensor:
    """The directions (F, F) in which rows (N, F) vary, unit vectors, those of the largest variance first.

    Computed in float64. The largest number of each is positive, since the sign is free.
    """
    row = row.double()
    row = row - row.mean(0)
    components = torch.linalg.eigh(row.T @ row).eigenvectors.T.flip(0)
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return components * largest.sign()
