"""A run's folder: who made it (flags, versions, commit), what it measured, and nothing overwritten."""
import csv
import json
import os
import platform
import subprocess
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
        self._replace(name, json.dumps(content, indent=2) + "\n")

    def write_csv(self, name: str, rows: list[dict]) -> None:
        """Write rows as CSV with the union of their columns, in order of appearance; absent values stay empty."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        temporary = self.path / (name + ".part")
        with self._writing(temporary) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path / name)

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / (name + ".part")
        with self._writing(temporary) as file:
            file.write(text)
        os.replace(temporary, self.path / name)

    def _writing(self, path: Path):
        try:
            return open(path, "w", newline="")
        except OSError as error:
            raise RunError(f"{path} cannot be written ({error.strerror}). Free space or choose another --save_path."
                           ) from error


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
