"""Decoded images kept for the whole run, or for later ones: one file that all worker processes map
into memory.

The file holds an index as numpy writes arrays (no pickle), then the pixels of all images, uint8 (h,
w, 3) one after the other. It is written whole beside its place, synced and renamed, so that a file
in that place is complete. The index names each image by its path, size and time of change: what
changed since is decoded anew, the rest is taken over.
"""
import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from datasets.crops import Shrink
from datasets.decode import decode_for
from datasets.identity import common_folder
from datasets.workers import computed
from utilities.bars import new_bar
from utilities.errors import RunError, UsageError, reason
from utilities.files import replacing
from utilities.lock import Lock

# change it with anything that changes the pixels or the file
VERSION = 2
# images from which the room needed is estimated, and by how much the estimate is raised
SAMPLE = 256
MARGIN = 1.1
# its limits, of cgroup v2
CONTAINER = Path("/sys/fs/cgroup")
# columns of the index; sizes are (height, width)
KEY = slice(0, 2)
START = 2
PIXELS = slice(3, 5)
COLUMNS = 7

Size = tuple[int, int]


class ImageCache:
    """cache[path] -> the image's pixels (3, h, w), uint8, and the (height, width) of its file.

    `source` is what to map: a file, or memory that `owner` keeps for as long as the cache lives.
    `keys` (N, 2) are those of the images; a file with others is refused.
    """

    def __init__(self, source: Path, paths: Sequence[Path], owner: BinaryIO | None = None,
                 keys: np.ndarray | None = None):
        self.source = source
        self.owner = owner
        self.row_of = {path: row for row, path in enumerate(paths)}
        with source.open("rb") as file, warnings.catch_warnings():
            self.index = np.lib.format.read_array(file, allow_pickle=False)  # (N, 7)
            self.first = file.tell()
            # torch warns that the pixels must not be written to
            warnings.simplefilter("ignore")
            self.bytes = torch.from_numpy(np.memmap(file, np.uint8, "r"))
        if not self._is_whole():
            raise ValueError(f"{source} is not a whole cache")
        if keys is not None and not self.holds(keys):
            raise RunError(f"{source}: another run has rewritten this cache for other images; "
                           "give each run its own --cache_path.")

    def holds(self, keys: np.ndarray) -> bool:
        """Whether the images are those of these keys (N, 2), in their order."""
        return np.array_equal(self.index[:, KEY], keys)

    def _is_whole(self) -> bool:
        """Whether the index has its form, and the images in it fill the file."""
        index = self.index
        if index.dtype != np.int64 or index.shape[1:] != (COLUMNS,) or len(index) == 0:
            return False
        end = np.cumsum(3 * index[:, PIXELS].prod(1))  # (N,)
        start = np.concatenate([[0], end[:-1]])
        return (np.array_equal(index[:, START], start) and (index[:, START + 1:] > 0).all()
                and len(self.bytes) == self.first + end[-1])

    def __getitem__(self, path: Path) -> tuple[Tensor, Size]:
        pixels, size = self.stored(self.row_of[path])
        return pixels.permute(2, 0, 1), size  # (3, h, w)

    def stored(self, row: int) -> tuple[Tensor, Size]:
        """The pixels (h, w, 3) of a row of the index, and the (height, width) of the file."""
        _, _, start, height, width, *size = self.index[row].tolist()
        start += self.first
        pixels = self.bytes[start:start + height * width * 3]
        return pixels.view(height, width, 3), tuple(size)

    def __reduce__(self) -> tuple:
        """A worker process receives where the pixels are, not the pixels."""
        return ImageCache, (self.source, list(self.row_of), None, self.index[:, KEY])


def open_cache(kind: str, paths: Sequence[Path], side: int, folder: str | Path = ".cache",
               name: str = "images", workers: int = 0) -> ImageCache | None:
    """The cache of these images, filled where it is not, with a progress bar; None for the kind
    "none".

    kind "ram": in memory that all processes share, gone with the run. "disk": a file in `folder`,
    for later runs too. side: images are kept with the shorter side at most this long (pixels).
    workers: processes that decode. Raises UsageError (unknown kind, too little room), RunError (the
    disk, an image).
    """
    if kind == "none":
        return None
    paths = sorted(set(paths))
    if kind == "ram":
        return _in_memory(paths, side, workers)
    if kind == "disk":
        return _on_disk(paths, side, Path(folder), name, workers)
    raise UsageError(f"--cache {kind}: there is no cache of this kind; choose one of: none, ram, "
                     "disk.")


def _in_memory(paths: list[Path], side: int, workers: int) -> ImageCache:
    """A cache in anonymous memory that its processes reach as a file."""
    if not hasattr(os, "memfd_create"):
        raise UsageError("--cache ram needs Linux; pass --cache disk here.")
    _require_room("--cache ram", paths, side, "of memory", available_memory(), "--cache disk")
    file = os.fdopen(os.memfd_create("images"), "w+b")
    with _explained("--cache ram", "pass a smaller --cache_side, or --cache disk"):
        _fill(file, paths, keys_of(paths), side, workers)
    return ImageCache(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), paths, owner=file)


def _on_disk(paths: list[Path], side: int, folder: Path, name: str, workers: int) -> ImageCache:
    """The cache in its file; a run that needs it while another fills it waits."""
    digits = hashlib.sha256(common_folder(paths).encode()).hexdigest()[:8]
    place = folder / f"{name}-{side}-{digits}.images"
    lock = place.with_suffix(".lock")
    with _explained(f"--cache_path {folder}", "free space, allow writing, or name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with Lock(lock):
            keys = keys_of(paths)
            older = None
            with suppress(OSError, ValueError, EOFError):
                older = ImageCache(place, paths)
            if older is None or not older.holds(keys):
                free = shutil.disk_usage(folder).free
                _require_room("--cache disk", paths, side, f"in {folder}", free,
                              "another --cache_path")
                with replacing(place, sync=True) as part, part.open("wb") as file:
                    _fill(file, paths, keys, side, workers, older)
            # before another run may replace the file
            return ImageCache(place, paths, keys=keys)


# ------------------------------------------------------------------------------------------ filling


def _fill(file: BinaryIO, paths: list[Path], keys: np.ndarray, side: int, workers: int,
          older: ImageCache | None = None) -> None:
    """Write index and pixels of all images, taking over from `older` what has not changed."""
    index = np.zeros((len(paths), COLUMNS), dtype=np.int64)
    index[:, KEY] = keys
    # this makes room; the numbers are written over it below
    np.lib.format.write_array(file, index, allow_pickle=False)
    old_keys = [] if older is None else older.index[:, KEY]
    row_of = {key.tobytes(): row for row, key in enumerate(old_keys)}
    rows = [row_of.get(key.tobytes()) for key in keys]
    changed = [path for path, row in zip(paths, rows) if row is None]
    decoded = computed(partial(_shrunk, side=side), changed, workers)
    start = 0
    for row, entry in zip(new_bar(rows, desc="caching images", unit="image"), index):
        pixels, size = next(decoded) if row is None else older.stored(row)
        entry[START:] = start, *pixels.shape[:2], *size
        start += pixels.numel()
        file.write(pixels.numpy())
    file.seek(0)
    np.lib.format.write_array(file, index, allow_pickle=False)
    file.flush()


def _shrunk(path: Path, side: int) -> tuple[Tensor, Size]:
    """An image as the cache keeps it: pixels (h, w, 3), and the (height, width) of the file."""
    pixels, span, crop = decode_for(path, Shrink(side))
    _, _, *size = crop.box
    return crop.cut(pixels, span).permute(1, 2, 0).contiguous(), tuple(size)  # (h, w, 3)


def keys_of(paths: Sequence[Path]) -> np.ndarray:
    """For each image two numbers that change with its path, its size and its time of change,
    (N, 2).
    """
    return np.frombuffer(b"".join(map(_key, paths)), dtype=np.int64).reshape(-1, 2)


def _key(path: Path) -> bytes:
    """The 16 bytes of one image."""
    try:
        found = path.stat()
    except OSError as error:
        raise RunError(f"{path}: the image cannot be read ({reason(error)}); restore it and run "
                       "again.") from None
    text = f"{VERSION} {found.st_size} {found.st_mtime_ns} {os.path.abspath(path)}"
    return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()


# --------------------------------------------------------------------------------------------- room


def _require_room(flag: str, paths: list[Path], side: int, where: str, free: int,
                  cure: str) -> None:
    """A UsageError where the images will not fit into `free` bytes."""
    needed = _estimate(paths, side)
    if needed > free:
        raise UsageError(f"{flag} needs about {needed / 2**30:.1f} GiB {where} and "
                         f"{free / 2**30:.1f} GiB are free: pass a smaller --cache_side, or "
                         f"{cure}.")


def _estimate(paths: list[Path], side: int) -> int:
    """About the bytes that the images will take, from some of them, evenly spread."""
    rows = {round(row) for row in np.linspace(0, len(paths) - 1, SAMPLE)}
    taken = [_shrunk(paths[row], side)[0].numel() for row in rows]
    return round(MARGIN * sum(taken) / len(taken) * len(paths))


def available_memory() -> int:
    """Bytes that can still be taken: what the system has available, or less where a container is
    limited; what it keeps of files makes room.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = dict(line.split(":") for line in lines)
    available = int(values["MemAvailable"].split()[0]) * 1024
    group = CONTAINER
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        kept = dict(map(str.split, (group / "memory.stat").read_text().splitlines()))
    except OSError:
        return available
    used -= int(kept["active_file"]) + int(kept["inactive_file"])
    return available if limit == "max" else min(available, int(limit) - used)


@contextmanager
def _explained(flag: str, cure: str) -> Iterator[None]:
    """A RunError in one sentence for what the operating system refuses."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{flag}: the cache cannot be written ({reason(error)}); {cure}.") from None
