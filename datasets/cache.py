"""Decoded images kept for the whole run, or for later ones: one file that all worker processes map into memory.

The file holds an index as numpy writes arrays (no pickle), then the pixels of all images, uint8 (h, w, 3) one after the
other. It is written whole beside its place, synced and renamed, so that one which is there is complete. The index names
each image by its path, size and time of change: what changed since is decoded anew, the rest is taken over.
"""
import fcntl
import hashlib
import mmap
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.crops import Shrink
from datasets.decode import decode_for
from datasets.workers import one_sentence
from utilities.errors import RunError, UsageError

VERSION = 1        # change it with anything that changes the pixels or the file
SAMPLE = 256       # images from which the room needed is estimated
MARGIN = 1.1       # by how much the estimate is raised, for images larger than those looked at
KEY, START, PIXELS, SIZE = slice(0, 2), 2, slice(3, 5), slice(5, 7)   # columns of the index; sizes: height, width


class ImageCache:
    """cache[path] -> the image's pixels (3, h, w), uint8, and the (height, width) of its file.

    `source` is what to map: a file, or memory that `owner` keeps for as long as the cache lives.
    """

    def __init__(self, source: Path, paths: Sequence[Path], owner: BinaryIO | None = None):
        self.source, self.owner = source, owner
        self.row_of = {path: row for row, path in enumerate(paths)}
        self._open()

    def _open(self) -> None:
        with self.source.open("rb") as file:
            self.index = np.lib.format.read_array(file, allow_pickle=False)        # (N, 7)
            self.first = file.tell()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                                        # that it must not be written to
            self.bytes = torch.from_numpy(np.frombuffer(mapped, dtype=np.uint8))
        whole = self.index.dtype == np.int64 and self.index.shape[1:] == (7,) and len(self.index)
        if not whole or len(self.bytes) != self.first + self.index[-1, START] + 3 * self.index[-1, PIXELS].prod():
            raise ValueError(f"{self.source} is not a whole cache")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, path: Path) -> tuple[Tensor, tuple[int, int]]:
        pixels, size = self.stored(self.row_of[path])
        return pixels.permute(2, 0, 1), size                                       # (3, h, w)

    def stored(self, row: int) -> tuple[Tensor, tuple[int, int]]:
        """The pixels (h, w, 3) of a row of the index, and the (height, width) of the file."""
        _, _, start, height, width, *size = self.index[row].tolist()
        start += self.first
        return self.bytes[start:start + height * width * 3].view(height, width, 3), tuple(size)

    def __getstate__(self) -> dict:
        """What a worker process receives: where the pixels are, not the pixels."""
        return {"source": self.source, "row_of": self.row_of}

    def __setstate__(self, state: dict) -> None:
        self.source, self.row_of, self.owner = state["source"], state["row_of"], None
        self._open()


def open_cache(kind: str, paths: Sequence[Path], side: int, folder: str | Path = ".cache", name: str = "images",
               workers: int = 0) -> ImageCache | None:
    """The cache of these images, filled where it is not, with a progress bar; None for the kind "none".

    kind "ram": in memory that all processes share, gone with the run. "disk": a file in `folder`, for later runs too.
    side: images are kept with the shorter side at most this long (pixels). workers: processes that decode.
    """
    if kind == "none":
        return None
    paths = sorted(set(paths))
    if kind == "ram":
        return _in_memory(paths, side, workers)
    if kind == "disk":
        return _on_disk(paths, side, Path(folder), name, workers)
    raise UsageError(f"--cache {kind}: there is no cache of this kind; choose one of: none, ram, disk.")


def _in_memory(paths: list[Path], side: int, workers: int) -> ImageCache:
    """A cache in anonymous memory that its processes reach as a file."""
    if not hasattr(os, "memfd_create"):
        raise UsageError("--cache ram needs Linux; pass --cache disk here.")
    needed, free = _estimate(paths, side), available_memory()
    if needed > free:
        raise UsageError(f"--cache ram needs about {_gib(needed)} of memory and {_gib(free)} are free: pass a smaller "
                         "--cache_side, or --cache disk.")
    file = os.fdopen(os.memfd_create("images"), "w+b")
    with _explained("--cache ram", "pass a smaller --cache_side, or --cache disk"):
        _fill(file, paths, _keys(paths), side, workers)
    return ImageCache(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), paths, owner=file)


def _on_disk(paths: list[Path], side: int, folder: Path, name: str, workers: int) -> ImageCache:
    """The cache in its file; a run that needs it while another fills it waits."""
    root = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    place = folder / f"{name}-{side}-{hashlib.sha256(root.encode()).hexdigest()[:8]}.images"
    with _explained(f"--cache_path {folder}", "free space, allow writing, or name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        with place.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys, older = _keys(paths), _present(place, paths)
            if older is None or not np.array_equal(older.index[:, KEY], keys):
                _write(place, paths, keys, side, workers, older)
    return ImageCache(place, paths)


def _present(place: Path, paths: list[Path]) -> ImageCache | None:
    """The cache that the file holds, if it is one."""
    try:
        return ImageCache(place, paths)
    except (OSError, ValueError, EOFError):
        return None


def _write(place: Path, paths: list[Path], keys: np.ndarray, side: int, workers: int, older: ImageCache | None
           ) -> None:
    """Fill the file beside its place, and move it there when it is whole and safe on the disk."""
    needed, free = _estimate(paths, side), shutil.disk_usage(place.parent).free
    if needed > free:
        raise UsageError(f"--cache disk needs about {_gib(needed)} in {place.parent} and {_gib(free)} are free: pass "
                         "a smaller --cache_side, or another --cache_path.")
    part = place.with_suffix(".part")
    try:
        with part.open("wb") as file:
            _fill(file, paths, keys, side, workers, older)
            os.fsync(file.fileno())
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _fill(file: BinaryIO, paths: list[Path], keys: np.ndarray, side: int, workers: int,
          older: ImageCache | None = None) -> None:
    """Write index and pixels of all images, taking over from `older` what has not changed."""
    index = np.zeros((len(paths), 7), dtype=np.int64)
    index[:, KEY] = keys
    np.lib.format.write_array(file, index, allow_pickle=False)                     # its room; its numbers follow below
    known = {} if older is None else {key.tobytes(): row for row, key in enumerate(older.index[:, KEY])}
    rows = [known.get(key.tobytes()) for key in keys]
    decoded = _decoded([path for path, row in zip(paths, rows) if row is None], side, workers)
    start, entries = 0, []
    for row in tqdm(rows, desc="caching images", unit="image", leave=False):
        pixels, size = next(decoded) if row is None else older.stored(row)
        entries.append((start, *pixels.shape[:2], *size))
        start += pixels.numel()
        file.write(pixels.numpy())
    index[:, START:] = entries
    file.seek(0)
    np.lib.format.write_array(file, index, allow_pickle=False)
    file.flush()


def _decoded(paths: list[Path], side: int, workers: int) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """The pixels to keep (h, w, 3) and the file's (height, width), in the order of the paths."""
    loader = DataLoader(_Shrunk(paths, side), batch_size=None, num_workers=workers,
                        generator=torch.Generator())   # else it would draw from the global stream
    with one_sentence():
        yield from loader


class _Shrunk(Dataset):
    """Images as the cache keeps them: dataset[row] -> pixels (h, w, 3), (height, width) of the file."""

    def __init__(self, paths: list[Path], side: int):
        self.paths, self.plan = paths, Shrink(side)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, tuple[int, int]]:
        pixels, size, crop = decode_for(self.paths[row], self.plan)
        return crop.cut(pixels, size).permute(1, 2, 0).contiguous(), size          # (h, w, 3)


def _keys(paths: list[Path]) -> np.ndarray:
    """For each image two numbers that change with its path, its size and its time of change, (N, 2)."""
    def key(path: Path) -> bytes:
        try:
            found = path.stat()
        except OSError as error:
            raise RunError(f"{path}: the image cannot be read ({error.strerror}); restore it and run again.") from None
        text = f"{VERSION} {found.st_size} {found.st_mtime_ns} {os.path.abspath(path)}"
        return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()
    return np.frombuffer(b"".join(map(key, paths)), dtype=np.int64).reshape(-1, 2)


def _estimate(paths: list[Path], side: int) -> int:
    """About the bytes that the images will take, from some of them, evenly spread."""
    rows = sorted({round(i) for i in np.linspace(0, len(paths) - 1, SAMPLE)})
    taken = [pixels.numel() for pixels, _ in (_Shrunk(paths, side)[row] for row in rows)]
    return round(MARGIN * sum(taken) / len(taken) * len(paths))


def available_memory() -> int:
    """Bytes that can still be taken: what the system has available, or less where a container is limited to it."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - int(used))


@contextmanager
def _explained(flag: str, cure: str) -> Iterator[None]:
    """A RunError in one sentence for what the operating system refuses."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{flag}: the cache cannot be written ({error.strerror or error}); {cure}.") from None


def _gib(number: int) -> str:
    """Bytes in GiB, for a sentence."""
    return f"{number / 2**30:.1f} GiB"
