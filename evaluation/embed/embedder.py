"""A trained network together with what else decides its embeddings."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import architectures
from architectures.exported import WEIGHTS, describe
from architectures.network import Network
from datasets.base import ImageList
from datasets.loader import Loader, make_loader
from datasets.row_paths import RowPaths
from datasets.rows import file_loader
from datasets.transforms import eval_transform, sides
from evaluation.embed import library
from utilities.digest import sha256
from utilities.files import section

# the flags that decide which pixels the network sees
GEOMETRY = ("image_size", "crop_size", "augmentation", "interpolation")


class Embedder(NamedTuple):
    """network, on `device`; geometry: flags that crop images; bs: images a batch; amp: precision.

    path: the checkpoint, the folder of a safetensors export, or the name of a library's model.
    digests: SHA-256 of the file, and of the checkpoint that an export was made from; or of the
    weights. settings: of a library's model; else None.
    """

    path: str
    digests: tuple[str, ...]
    network: Network
    device: torch.device
    geometry: dict[str, Any]
    bs: int
    amp: str
    settings: dict[str, Any] | None = None

    def loader(self, images: ImageList, workers: int = 0) -> Loader:
        """The images in order, as this network takes them; or rows of a file that stand for features."""
        if isinstance(images.paths, RowPaths):
            return file_loader(images, batch_size=self.bs)
        transform = eval_transform(**self.geometry, **self.network.preprocessing)
        return make_loader(images, transform, batch_size=self.bs, workers=workers,
                           device=self.device)


def open_embedder(path: str | Path, device: torch.device, *,
                  geometry: dict[str, Any] | None = None, bs: int | None = None,
                  amp: str | None = None, side: int | None = None,
                  settings: dict[str, Any] | None = None) -> Embedder:
    """The network of a checkpoint or an export; a setting that is None is that of its run.

    side: of the input, in the place of a whole geometry. settings: `path` is the name of a
    library's model, and these are settings of library.restore; what is None is the library's.
    """
    if settings is None:
        network, trained = architectures.restore(path)
        digests = _digests(Path(path))
        path = Path(path).resolve()
        geometry = geometry or (side and {"image_size": side})
    else:
        side = _input_side(geometry) if geometry else side
        network, trained = library.restore(str(path), settings, side)
        digests = (library.digest(network),)
    network.to(device, memory_format=torch.channels_last).eval()
    geometry = geometry or {flag: trained.get(flag) for flag in GEOMETRY}
    given = {flag: value for flag, value in geometry.items() if value is not None}
    geometry = {"image_size": network.image_size, "augmentation": "base"} | given
    architectures.check_side(network, trained["arch"], _input_side(geometry))
    bs = bs or trained["bs"]
    amp = amp or trained.get("amp", "none")
    return Embedder(str(path), digests, network, device, geometry, bs, amp, settings)


def _input_side(geometry: dict[str, Any]) -> int:
    """The side of the network's input."""
    resized = {flag: value for flag, value in geometry.items() if flag != "interpolation"}
    return sides(**resized).input


def _digests(path: Path) -> tuple[str, ...]:
    """What identifies a checkpoint, or an export."""
    if not path.is_dir():
        return (sha256(path),)
    own = sha256(path / WEIGHTS["safetensors"])
    origin = section(describe(path), "checkpoint")
    return (own, str(origin.get("sha256"))) if origin else (own,)


def one_set(paths: Sequence[Path]) -> ImageList:
    """Images without classes."""
    return ImageList(list(paths), [0] * len(paths), [""])
