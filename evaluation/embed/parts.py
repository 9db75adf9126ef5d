"""Embeddings that are written part by part, so that a call that was ended continues where it was."""
import contextlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from utilities.errors import RunError, UsageError
from utilities.lock import Lock
from utilities.logger import write_json

FOLDER, WORK = "unfinished", "work.json"
SECONDS = 10.0   # of work that a kill can cost


class Parts:
    """The rows of the first images of a set, kept in `<out>/unfinished/` until all are there.

    A part holds `rows` (n, D) float32 and `damaged` (n,) bool, of consecutive images; its name is the number of the
    first. Parts are whole batches, synced and renamed to their names, so that a call that continues computes the same
    batches as one that was never ended. work: what the rows follow from; a folder that was begun otherwise is refused.
    """

    def __init__(self, out: Path, work: dict[str, Any]):
        self.out, self.folder, self.work, self.done = out, out / FOLDER, work, 0
        self.damaged: list[int] = []                                               # numbers of images
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._since = time.monotonic()

    def __enter__(self) -> "Parts":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(self.folder, f"{self.out}: another process is writing embeddings there; wait for it, or name "
                                       "another --out.")
        try:
            self._refuse_other_work(self.work)
            for path in self._paths():
                self._count(path)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *error) -> None:
        """Whatever the end is, all batches that were added are on the disk; where there are none, nothing is."""
        try:
            self.write()
            if not self.done:
                self.remove()
        finally:
            self._lock.release()

    def _refuse_other_work(self, work: dict[str, Any]) -> None:
        """Note down the work; a UsageError where it is not the one that was begun."""
        place = self.folder / WORK
        if not self._paths():
            write_json(place, work)
            return
        try:
            begun = json.loads(place.read_text(encoding="utf-8"))
            differing = [f"{key} {_shown(begun.get(key))} there, {_shown(value)} now" for key, value in work.items()
                         if begun.get(key) != value]
        except (OSError, ValueError, AttributeError, RecursionError):
            differing = [f"{WORK} cannot be read"]
        if differing:
            raise UsageError(f"{self.folder} holds embeddings that were begun otherwise ({'; '.join(differing)}); give "
                             "the command as it was begun, name another --out, or remove that folder.")

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("rows-*.npz"))

    def _count(self, path: Path) -> None:
        """Take a part as done."""
        _, damaged = _read(path)
        if path != self._path(self.done):
            raise RunError(f"{self.folder}: a part before {path.name} is missing; remove that folder to begin anew.")
        self.damaged += (self.done + damaged.nonzero()[0]).tolist()
        self.done += len(damaged)

    def _path(self, first: int) -> Path:
        return self.folder / f"rows-{first:012d}.npz"

    def add(self, rows: np.ndarray, damaged: np.ndarray) -> None:
        """The next batch, (n, D) and (n,); written to the disk every SECONDS."""
        self._waiting.append((rows, damaged))
        if time.monotonic() - self._since >= SECONDS:
            self.write()

    def write(self) -> None:
        """Bring to the disk what waits for it."""
        self._since = time.monotonic()
        if not self._waiting:
            return
        rows, damaged = (np.concatenate(arrays) for arrays in zip(*self._waiting))
        self._waiting = []
        path = self._path(self.done)
        with _whole(self.folder / "part", path) as temporary, open(temporary, "wb") as file:
            np.savez(file, rows=rows, damaged=damaged)
            _sync(file)
        self._count(path)

    def join(self, place: Path) -> None:
        """All rows but those of damaged images, (N - damaged, D), as np.save writes them, one part in memory at a
        time."""
        paths = self._paths()
        shape = (self.done - len(self.damaged), _read(paths[0])[0].shape[1])
        with _whole(self.folder / place.name, place) as temporary, open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for path in paths:
                rows, damaged = _read(path)
                file.write(rows[~damaged].astype("<f4").tobytes())
            _sync(file)

    def remove(self) -> None:
        """Away with the parts, and with the folder around them where nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.out.rmdir()


def begun(out: Path) -> bool:
    """Whether there are parts in this folder to continue from."""
    return (out / FOLDER / WORK).exists()


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """rows (n, D) and damaged (n,) of a part."""
    try:
        with np.load(path, allow_pickle=False) as part:
            return part["rows"], part["damaged"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged ({error}); remove its folder to begin anew.") from None


@contextlib.contextmanager
def _whole(temporary: Path, path: Path) -> Iterator[Path]:
    """A place to write to, whose file moves to `path` at the end."""
    yield temporary
    os.replace(temporary, path)


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _shown(value: Any) -> str:
    return str(value)[:60]
