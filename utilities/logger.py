"""A run's folder: who made it (flags, versions, commit), what it measured, and nothing overwritten."""
import csv
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from utilities.errors import RunError

PACKAGES = ("torch", "torchvision", "numpy", "faiss-gpu", "scikit-learn", "pillow", "matplotlib", "pretrainedmodels")


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
                    return
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise RunError(f"The run's folder cannot be made in {parent} ({error.strerror}). Choose a --save_path that "
                           "you may write to.") from error

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def write_json(self, name: str, content: dict) -> None:
        """Write a JSON file, whole or not at all."""
        write_json(self / name, content)

    def write_csv(self, name: str, rows: list[dict], columns: Sequence[str] = ()) -> None:
        """Write rows as CSV with the union of their columns, in order of appearance, behind those of `columns`; absent
        values stay empty."""
        columns = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
        temporary = self.path / (name + ".part")
        with _writing(temporary) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path / name)


def write_json(path: str | Path, content: dict) -> None:
    """Write a JSON file, whole or not at all."""
    temporary = f"{path}.part"
    with _writing(temporary) as file:
        file.write(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def _writing(path: str | Path):
    try:
        return open(path, "w", newline="", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Free space, or choose another place.") from error


def provenance(options: dict, device: str) -> dict:
    """Everything needed to repeat a run: flags, versions, git commit (None outside a checkout), device."""
    return {"flags": options, "versions": {"python": platform.python_version()} | _versions(), "device": device,
            "commit": _git("rev-parse", "HEAD"), "uncommitted_changes": bool(_git("status", "--porcelain"))}


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
