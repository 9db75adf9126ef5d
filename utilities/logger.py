"""A run's folder: who made it (flags, versions, commit), what it measured, nothing overwritten."""
import contextlib
import csv
import errno
import itertools
import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

import torch

from utilities import distributed
from utilities.cells import spreadsheet_text
from utilities.errors import RunError, reason
from utilities.files import remove, replacing_text
from utilities.flags import as_recorded
from utilities.lock import Lock

ROOT = Path(__file__).parent.parent
# The folders of the code.
ROOMS = (
    "architectures",
    "batchminer",
    "criteria",
    "datasets",
    "evaluation",
    "flows",
    "training",
    "utilities",
)
# Of a disk, a quota, or the size that a file may have.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "faiss-gpu",
    "faiss-cpu",
    "scikit-learn",
    "pillow",
    "matplotlib",
    "pretrainedmodels",
    "timm",
    "pytorch-metric-learning",
)


class RunFolder:
    """The folder of a run, locked until it is closed."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = Lock(
            path,
            f"{path}: another process is training in this folder; wait for it, or choose "
            "another --savename.",
        )

    @classmethod
    def new(cls, save_path: str, dataset: str, name: str) -> "RunFolder":
        """`<save_path>/<dataset>/<name>/`, always new: -2, -3, ... is added to a used name."""
        parent = Path(save_path) / dataset
        try:
            parent.mkdir(parents=True, exist_ok=True)
            return cls(_new_folder(parent, name))
        except OSError as error:
            raise RunError(
                f"The run's folder cannot be made in {parent} ({reason(error)}). Choose a "
                "--save_path that you may write to, or a shorter --savename."
            ) from error

    def close(self) -> None:
        """Let other processes use the folder again."""
        self._lock.release()

    def remove(self) -> None:
        """Delete the folder with all that is in it."""
        remove(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def write_csv(self, name: str, rows: list[dict], columns: Sequence[str] = ()) -> None:
        """Write rows as CSV: first `columns`, then the others in order of appearance.

        What a row does not have stays empty. People open these files: no name is a formula there.
        """
        names = itertools.chain(columns, *rows)
        with _written(self.path / name) as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(names)))
            writer.writeheader()
            for row in rows:
                writer.writerow({column: spreadsheet_text(cell) for column, cell in row.items()})


def _new_folder(parent: Path, name: str) -> Path:
    """A folder of this name, or of this name and the first free number."""
    path = parent / name
    for number in itertools.count(2):
        try:
            path.mkdir()
            break
        except FileExistsError:
            path = parent / f"{name}-{number}"
    return path


def write_json(path: str | Path, content: dict) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with _written(path) as file:
        file.write(text)


@contextlib.contextmanager
def _written(path: str | Path) -> Iterator[IO[str]]:
    """A text file that replaces `path` once it is complete; a full disk leaves what was there."""
    try:
        with replacing_text(path) as file:
            yield file
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({reason(error)}). Free space, or choose another place."
        ) from error


def provenance(options: dict, device: str) -> dict:
    """Everything needed to repeat a run: flags, versions, git commit, device, machine.

    The numbers of a CPU depend on how many threads it computes with, those of a GPU on its model.
    The commit is None outside a checkout.
    """
    on_gpu = device.startswith("cuda")
    return {
        "flags": options,
        "versions": _versions(),
        "device": device,
        "device_model": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": distributed.world(),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": has_uncommitted_changes(),
    }


def has_uncommitted_changes(root: Path = ROOT) -> bool:
    """Whether the code differs from the commit: a changed tracked file, or an untracked source file
    beside main.py or in a room. Other untracked files, such as images, are no part of it."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", root=root)
    places = [":(glob)*.py", *(f"{room}/*.py" for room in ROOMS)]
    added = _git("ls-files", "--others", "--exclude-standard", "--", *places, root=root)
    return bool(changed or added)


def differences(recorded: dict, present: dict) -> list[str]:
    """What differs between a run and its repetition: a line for each flag, version and fact.

    recorded, present: as `provenance` gives them; the former may be of any origin.
    """
    lines = []
    then = _facts(recorded)
    for name, now in _facts(present).items():
        if as_recorded(now) != then.get(name):
            lines.append(f"{name}: {_shortened(now)} instead of {_shortened(then.get(name))}")
    if recorded.get("uncommitted_changes") is True:
        lines.append("the code of the run had changes that no commit holds")
    return lines


def _facts(record: dict) -> dict:
    """The flags, versions and facts of a record, each by what a line calls it."""
    facts = {}
    for key, value in record.items():
        prefix = "--" if key == "flags" else ""
        entries = value if isinstance(value, dict) else {key.replace("_", " "): value}
        facts |= {prefix + name: entry for name, entry in entries.items()}
    facts.pop("--repeat", None)
    return facts


def _shortened(value) -> str:
    return ascii(as_recorded(value))[:80]


def _versions() -> dict:
    packages = {package: _version(package) for package in PACKAGES}
    return {"python": platform.python_version()} | packages | {"cuda": torch.version.cuda}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str, root: Path = ROOT) -> str | None:
    """What git prints in the folder of this code; None if it fails."""
    command = ["git", *arguments]
    try:
        run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None
