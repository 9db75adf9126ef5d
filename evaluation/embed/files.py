"""The folder of embeddings that evaluation.embed writes and evaluation.search reads."""
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.base import ImageList
from datasets.crops import INTERPOLATIONS
from datasets.embeddings import as_listed, row_names
from datasets.row_paths import RowPaths
from evaluation.embed.embedder import GEOMETRY, Embedder
from evaluation.embed.library import holds_settings
from evaluation.ranking import with_context
from utilities.cells import spreadsheet_text
from utilities.device import AMP
from utilities.digest import sha256
from utilities.errors import RunError, UsageError
from utilities.files import read_json, replacing, replacing_text
from utilities.labels import plain
from utilities.logger import provenance, write_json

EMBEDDINGS = "embeddings.npy"
LABELS = "labels.csv"
DESCRIPTION = "embeddings.json"
COLUMNS = ["path", "label", "class"]
# how names that are not UTF-8 are written
ESCAPED = "backslashreplace"
WRITTEN = (EMBEDDINGS, LABELS, DESCRIPTION)


def write_set(out: Path, embedder: Embedder, images: ImageList, source: Path, rows: np.ndarray,
              is_damaged: np.ndarray, context: tuple[int, float] = (0, 0.0),
              before: tuple[np.ndarray, list[list[str]]] | None = None) -> None:
    """The three files of all images whose is_damaged (N,) is false; rows (N, D).

    context: neighbours and power, as in evaluation.ranking.with_context; no neighbours: rows as
    they are. before: rows (M, D) and cells of labels.csv of images that come first.
    """
    earlier, lines = before or (rows[:0], [])
    neighbours, power = context
    kept = rows[~is_damaged]  # (n, D)
    more = {}
    if embedder.settings is not None:
        more["model"] = embedder.settings
    if neighbours:
        kept = with_context(torch.from_numpy(kept), None, neighbours, power)[0].numpy()
        more["context"] = {"neighbours": neighbours, "power": power}
    kept = np.concatenate([earlier, kept]) if before else kept
    paths = row_names(images, source)
    write_labels(out / LABELS, lines, images, paths, is_damaged)
    with (replacing(out / EMBEDDINGS, sync=True) as temporary, open(temporary, "wb") as file):
        np.save(file, kept)
    made = provenance({}, embedder.device.type)
    write_json(out / DESCRIPTION, {
        "rows": len(kept),
        "dimensions": rows.shape[1],
        "embeddings": sha256(out / EMBEDDINGS),
        "checkpoint": {"path": embedder.path, "sha256": list(embedder.digests)},
        "preprocessing": embedder.geometry,
        "precision": embedder.amp,
        "images": str(image_folder(images, source).resolve()),
        "skipped": [path for path, damaged in zip(paths, is_damaged) if damaged],
        "versions": made["versions"],
        "commit": made["commit"],
    } | more)


def write_labels(table: Path, earlier: list[list[str]], images: ImageList, paths: list[str],
                 is_damaged: np.ndarray) -> None:
    """The table of images: the cells of earlier lines, then a line for each that is not damaged."""
    with replacing_text(table, sync=True) as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, *earlier])
        for path, label, damaged in zip(paths, images.labels, is_damaged):
            if not damaged:
                writer.writerow([path, label, spreadsheet_text(plain(images.class_names[label]))])


def image_folder(images: ImageList, source: Path) -> Path:
    """The folder that the paths of images are relative to."""
    return images.paths.file.root if isinstance(images.paths, RowPaths) else source


def as_text(path: Path) -> str:
    """A path as labels.csv names it."""
    return as_listed(path).encode("utf-8", ESCAPED).decode()


def read_description(folder: Path) -> dict[str, Any]:
    """The content of embeddings.json; empty where there is none, as for other embeddings."""
    path = folder / DESCRIPTION
    if not path.exists():
        return {}
    content = read_json(path)
    try:
        is_whole = _is_description(content)
    except (ValueError, LookupError, TypeError):
        is_whole = False
    if not is_whole:
        raise RunError(f"{path} is damaged; remove it and pass --checkpoint, or embed the images "
                       "again.")
    return content


def refuse_context(file: Path) -> None:
    """A UsageError where these embeddings have context already."""
    content = read_description(file.parent)
    if "context" in content and content["embeddings"] == sha256(file):
        raise UsageError(f"{file}: these rows have context already ({DESCRIPTION}), and cannot take "
                         "it twice: embed the images without --eval_context.")


def _is_description(content: dict[str, Any]) -> bool:
    """Whether all that evaluation.search needs is there and of its type."""
    checkpoint = content["checkpoint"]
    geometry = dict(content["preprocessing"])
    texts = [checkpoint["path"], content["images"], content["embeddings"],
             geometry.pop("augmentation")]
    is_known = geometry.pop("interpolation", INTERPOLATIONS[0]) in INTERPOLATIONS
    is_known = is_known and holds_settings(content.get("model", {}))
    return (is_known
            and all(isinstance(text, str) for text in texts)
            and all(isinstance(side, int) for side in geometry.values())
            and isinstance(checkpoint["sha256"], list)
            and content["precision"] in AMP
            and set(geometry) <= set(GEOMETRY))
