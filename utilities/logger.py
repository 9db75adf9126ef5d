"""A run's folder: who made it (flags, versions, commit), what it measured, and nothing overwritten."""
import contextlib
import csv
import errno
import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

import torch

from utilities import distributed
from utilities.errors import RunError
from utilities.files import replacing
from utilities.lock import Lock

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)   # of a disk, a quota, or the size that a file may have
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "faiss-gpu", "faiss-cpu", "scikit-learn", "pillow", "matplotlib",
            "pretrainedmodels", "timm", "pytorch-metric-learning")


class RunFolder:
    """`<save_path>/<dataset>/<name>/`, made anew: an existing folder is never written to, -2, -3, ... is added."""

    def __init__(self, save_path: str, dataset: str, name: str):
        parent, number = Path(save_path) / dataset, 1
        try:
            parent.mkdir(parents=True, exist_ok=True)
            while True:
                self.path = parent / (name if number == 1 else f"{name}-{number}")
                try:
                    self.path.mkdir()
                    self._lock = self._locked()
                    return
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise RunError(f"The run's folder cannot be made in {parent} ({error.strerror}). Choose a --save_path that "
                           "you may write to.") from error

    @classmethod
    def at(cls, path: Path) -> "RunFolder":
        """The folder of a run that is continued."""
        folder = cls.__new__(cls)
        folder.path = path
        folder._lock = folder._locked()
        return folder

    def _locked(self) -> Lock:
        return Lock(self.path, f"{self.path}: another process is training in this folder; wait for it, or choose "
                               "another --savename.")

    def close(self) -> None:
        """Let others in again."""
        self._lock.release()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def write_json(self, name: str, content: dict) -> None:
        """Write a JSON file, whole or not at all."""
        write_json(self / name, content)

    def write_csv(self, name: str, rows: list[dict], columns: Sequence[str] = ()) -> None:
        """Write rows as CSV with the union of their columns, in order of appearance, behind those of `columns`; absent
        values stay empty."""
        columns = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
        with _written(self.path / name) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def write_json(path: str | Path, content: dict) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with _written(path) as file:
        file.write(text)


@contextlib.contextmanager
def _written(path: str | Path) -> Iterator[IO[str]]:
    """A text file that takes the place of `path` once it is complete; a full disk leaves what was there."""
    try:
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Free space, or choose another place.") from error


def provenance(options: dict, device: str) -> dict:
    """Everything needed to repeat a run: flags, versions, git commit (None outside a checkout), device, machine.

    The numbers of a CPU depend on how many threads it computes with, those of a GPU on its model.
    """
    versions = {"python": platform.python_version()} | _versions() | {"cuda": torch.version.cuda}
    model = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {"flags": options, "versions": versions, "device": device, "device_model": model,
            "system": platform.platform(), "threads": torch.get_num_threads(), "processes": distributed.world(),
            "commit": _git("rev-parse", "HEAD"), "uncommitted_changes": bool(_git("status", "--porcelain"))}


def differences(recorded: dict, present: dict) -> list[str]:
    """What a repetition does not have in common with the run that it repeats: a line for each flag, version, and fact
    of the machine. recorded, present: as `provenance` gives them; the former may be of any origin."""
    lines = []
    for key, now in present.items():
        then = recorded.get(key)
        if isinstance(now, dict):
            then = then if isinstance(then, dict) else {}
            lines += [_difference(f"--{name}" if key == "flags" else name, then.get(name), value)
                      for name, value in now.items() if name != "repeat" and _plain(value) != then.get(name)]
        elif now != then:
            lines.append(_difference(key.replace("_", " "), then, now))
    if recorded.get("uncommitted_changes") is True:
        lines.append("the code of the run had changes that no commit holds")
    return lines


def _difference(name: str, then, now) -> str:
    was, present = (ascii(_plain(value))[:80] for value in (then, now))
    return f"{name}: {present} instead of {was}"


def _plain(value):
    """A tuple as the list that JSON makes of it."""
    return list(value) if isinstance(value, tuple) else value


def _versions() -> dict:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parent.parent
    try:
        run = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None
