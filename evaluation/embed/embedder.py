"""A trained network together with what else its embeddings follow from."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import architectures
from architectures.exported import WEIGHTS, describe
from architectures.network import Network
from datasets.base import ImageList
from datasets.loader import Loader, make_loader
from datasets.transforms import eval_transform, sides
from utilities.digest import sha256

GEOMETRY = ("image_size", "crop_size", "augmentation")   # the flags that decide which pixels the network sees


class Embedder(NamedTuple):
    """network, on `device`; geometry: flags by which images are cut; bs: images in a batch; amp: precision.

    path: the checkpoint, or the folder of a safetensors export; digests: SHA-256 of the file, and of the checkpoint
    that an export was made from.
    """

    path: Path
    digests: tuple[str, ...]
    network: Network
    device: torch.device
    geometry: dict[str, Any]
    bs: int
    amp: str

    def loader(self, images: ImageList, workers: int = 0) -> Loader:
        """The images in order, as this network takes them."""
        transform = eval_transform(**self.geometry, **self.network.preprocessing)
        return make_loader(images, transform, batch_size=self.bs, workers=workers, device=self.device)


def open_embedder(path: str | Path, device: torch.device, *, geometry: dict[str, Any] | None = None,
                  bs: int | None = None, amp: str | None = None) -> Embedder:
    """The network of a checkpoint or of an exported folder; every setting that is None is that of its run."""
    path = Path(path)
    network, trained = architectures.restore(path)
    network.to(device, memory_format=torch.channels_last).eval()
    geometry = geometry or {flag: trained.get(flag) for flag in GEOMETRY}
    geometry = {"image_size": network.image_size, "augmentation": "base"} | {
        flag: value for flag, value in geometry.items() if value is not None}
    architectures.check_side(network, trained["arch"], sides(**geometry).input)
    return Embedder(path, _digests(path), network, device, geometry, bs or trained["bs"],
                    amp or trained.get("amp", "none"))


def _digests(path: Path) -> tuple[str, ...]:
    """What a checkpoint, or an exported folder, can be known by."""
    if not path.is_dir():
        return (sha256(path),)
    origin = describe(path).get("checkpoint")
    return sha256(path / WEIGHTS["safetensors"]), *([str(origin.get("sha256"))] if isinstance(origin, dict) else [])


def one_set(paths: Sequence[Path]) -> ImageList:
    """Images without classes."""
    return ImageList(list(paths), [0] * len(paths), [""])
