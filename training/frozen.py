"""A backbone that stays as it is: its features are computed once and take the place of the images."""
import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from architectures.network import Network
from datasets.base import ImageList
from datasets.cache import available_memory, keys_of
from datasets.loader import Loader, make_loader
from datasets.rows import row_loader
from datasets.samplers import BatchSampler
from training.features import features_of
from utilities.errors import RunError, UsageError, reason
from utilities.files import replacing
from utilities.lock import Lock
from utilities.weights import add_to_digest

# of the views, which all runs share
SEED = 0
# change it with anything that changes the features
VERSION = 2


def frozen_loader(opt, network: Network, images: ImageList, transform, *, workers: int, seed: int,
                  device: torch.device, batch_sampler: BatchSampler | None = None,
                  batch_size: int = 128) -> Loader:
    """What takes the place of `make_loader` where the backbone is frozen: a loader of features.

    With a sampler they are of the augmented views, without one of the images as they are tested.
    """
    purpose = "train" if batch_sampler else "test"
    varies = batch_sampler and opt.augmentation != "none"
    n_views = opt.freeze_views if varies else 1
    loader = make_loader(images, transform, workers=workers, seed=SEED, device=device)
    rows = torch.arange(len(loader.dataset))
    compute = partial(features_of, network, loader, rows, views=n_views, bs=opt.bs, amp=opt.amp,
                      device=device, desc="features")
    shape = (n_views, len(rows), network.feature_dim)
    if opt.cache == "disk":
        name = f"{opt.dataset}-{purpose}-{digest(opt, network, images, purpose, device)}.npy"
        views = on_disk(Path(opt.cache_path) / name, shape, compute)
    else:
        views = in_memory(shape, compute)
    return row_loader(views, images, batch_sampler, batch_size, seed)


def in_memory(shape: tuple[int, int, int], compute: Callable) -> np.ndarray:
    """The features (V, N, F), gone with the run."""
    refuse_too_many(shape, available_memory(), "memory", "--cache disk, or fewer --freeze_views")
    views = np.empty(shape, np.float32)
    for view, index, feature in compute():
        views[view, index] = feature
    return views


def on_disk(place: Path, shape: tuple[int, int, int], compute: Callable) -> np.ndarray:
    """The features (V, N, F) mapped from their file, which is written whole where it is not there; a run that needs
    it while another writes it waits."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = place.with_suffix(".lock")
        lock.touch()
        with Lock(lock):
            if not place.is_file():
                free = shutil.disk_usage(place.parent).free
                refuse_too_many(shape, free, f"space in {place.parent}", "another --cache_path, or fewer "
                                "--freeze_views")
                with replacing(place, sync=True) as part:
                    views = np.lib.format.open_memmap(part, "w+", np.float32, shape)
                    for view, index, feature in compute():
                        views[view, index] = feature
                    views.flush()
            return np.load(place, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RunError(f"--cache_path {place.parent}: the features {place.name} cannot be kept there "
                       f"({reason(error)}); free space, remove the file, or name another folder.") from None


def refuse_too_many(shape: tuple[int, int, int], free: int, where: str, cure: str) -> None:
    """A UsageError where the features do not fit into `free` bytes."""
    needed = 4 * int(np.prod(shape))
    if needed > free:
        raise UsageError(f"--freeze needs {needed / 2**30:.1f} GiB of {where} for the features and "
                         f"{free / 2**30:.1f} GiB are free: pass {cure}.")


def digest(opt, network: Network, images: ImageList, purpose: str, device: torch.device) -> str:
    """What the features follow from: images and crops, the backbone's weights, and the precision of its arithmetic."""
    found = hashlib.sha256(keys_of(images.paths).tobytes())
    flags = [opt.arch, opt.pooling, opt.feature_norm, opt.image_size, opt.crop_size, opt.augmentation, opt.freeze_views,
             opt.bs, opt.amp, opt.tf32, opt.channels_last, device.type]
    found.update(repr([VERSION, purpose, *flags, network.preprocessing, torch.__version__]).encode())
    add_to_digest(found, network.backbone.state_dict())
    return found.hexdigest()[:16]
