"""The folder of embeddings that evaluation.embed writes and evaluation.search reads."""
import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets.base import ImageList
from evaluation.embed.embedder import GEOMETRY, Embedder
from evaluation.embed.parts import Parts
from utilities.device import AMP
from utilities.digest import sha256
from utilities.errors import RunError
from utilities.logger import provenance, write_json

EMBEDDINGS, LABELS, DESCRIPTION = "embeddings.npy", "labels.csv", "embeddings.json"
WRITTEN = (EMBEDDINGS, LABELS, DESCRIPTION)


def write_set(out: Path, embedder: Embedder, images: ImageList, source: Path, parts: Parts) -> None:
    """The three files of all images but the damaged ones, each whole or not at all."""
    damaged = set(parts.damaged)
    kept = [i for i in range(len(images.paths)) if i not in damaged]
    _write_lines(out / LABELS, ("path", "label", "class"), (
        (images.paths[i].relative_to(source).as_posix(), images.labels[i], images.class_names[images.labels[i]])
        for i in kept))
    parts.join(out / EMBEDDINGS)
    made, skipped = provenance({}, embedder.device.type), [images.paths[i] for i in parts.damaged]
    write_json(out / DESCRIPTION, {
        "rows": len(kept), "dimensions": embedder.network.embed_dim, "embeddings": sha256(out / EMBEDDINGS),
        "checkpoint": {"path": str(embedder.path.resolve()), "sha256": list(embedder.digests)},
        "preprocessing": embedder.geometry, "precision": embedder.amp, "images": str(source.resolve()),
        "skipped": [path.relative_to(source).as_posix() for path in skipped], "versions": made["versions"],
        "commit": made["commit"]})


def _write_lines(path: Path, columns: tuple[str, ...], lines: Iterable[tuple]) -> None:
    """A table as CSV, whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([columns, *lines])
    os.replace(temporary, path)


def read_description(folder: Path) -> dict[str, Any]:
    """What embeddings.json says of the embeddings beside it; nothing where there is none, as for those of another
    origin."""
    path = folder / DESCRIPTION
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        told, size = content["checkpoint"], content["preprocessing"]
        whole = (isinstance(told["path"], str) and isinstance(told["sha256"], list)
                 and isinstance(content["images"], str) and isinstance(content["embeddings"], str)
                 and content["precision"] in AMP
                 and set(size) <= set(GEOMETRY) and isinstance(size["augmentation"], str)
                 and all(isinstance(value, int) for key, value in size.items() if key != "augmentation"))
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        whole = False
    if not whole:
        raise RunError(f"{path} is damaged; remove it and pass --checkpoint, or embed the images again.")
    return content
