"""A set of embeddings on the disk, with the file and the class of each row."""
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from evaluation.embed.files import (
    DESCRIPTION,
    EMBEDDINGS,
    LABELS,
    read_description,
    refuse_context,
)
from evaluation.ranking import with_context
from evaluation.score import read_embeddings, read_table
from utilities.digest import sha256
from utilities.errors import RunError, UsageError


@dataclass(frozen=True)
class EmbeddedSet:
    """The rows (N, D) of a file, a line of labels.csv for each, and what embeddings.json says.

    root: the folder that the paths in labels.csv start from, None where it is unknown.
    context: (neighbours, power) of evaluation.ranking.with_context and the rows (N, D) that have it;
        None: the rows are searched as they are.
    """

    file: Path
    rows: Tensor
    lines: list[dict[str, str]]
    description: dict[str, Any]
    root: Path | None
    context: tuple[int, float, Tensor] | None = None

    def class_of(self, row: int) -> str:
        """The class of a row."""
        return self.lines[row].get("class") or self.lines[row]["label"]

    def image_of(self, row: int) -> Path:
        """The image file of a row."""
        return Path(self.root or "", self.lines[row]["path"])

    def row_of(self, image: Path) -> int | None:
        """The row of an image file, None where it is not in the set."""
        if self.root is None:
            return None
        root = os.path.realpath(self.root)
        image = Path(os.path.abspath(image))
        # a link in the folder has the name of the link, one from elsewhere that of its target
        names = [image.relative_to(folder) for folder in image.parents
                 if os.path.realpath(folder) == root]
        names.append(Path(os.path.relpath(os.path.realpath(image), root)))
        rows = (self._rows_by_path.get(os.path.normpath(name)) for name in names)
        return next((row for row in rows if row is not None), None)

    @cached_property
    def _rows_by_path(self) -> dict[str, int]:
        return {os.path.normpath(line["path"]): row for row, line in enumerate(self.lines)}


def read_set(place: str, images: str | None = None, neighbours: int = 0,
             power: float = 3.0) -> EmbeddedSet:
    """Read a folder of evaluation.embed, or its embeddings.npy.

    images: the folder that paths start from; None: the one that was embedded. neighbours, power:
    of the context that every row is given; 0: none. Raises UsageError or RunError where the files
    are not those of one set.
    """
    file = _embeddings_file(Path(place))
    if neighbours:
        refuse_context(file)
    rows = read_embeddings(str(file))
    if not len(rows):
        raise UsageError(f"{file} holds no rows; embed some images.")
    table = file.parent / LABELS
    lines = read_table(str(table), len(rows), ("path", "label"))
    description = read_description(file.parent)
    if description and description["embeddings"] != sha256(file):
        raise RunError(f"{file} is not the file that {DESCRIPTION} beside it describes; embed the "
                       f"images again, or remove {DESCRIPTION} and pass --checkpoint.")
    if images and not Path(images).is_dir():
        raise UsageError(f"{images}: there is no such folder; give the one where the paths of "
                         f"{LABELS} begin.")
    root = images or description.get("images")
    context = None
    if neighbours:
        # faiss would copy the rows first, as in a search
        augmented, _ = with_context(rows, None, neighbours, power, backend="torch")
        context = (neighbours, power, augmented)
    return EmbeddedSet(file, rows, lines, description, Path(root) if root else None, context)


def _embeddings_file(place: Path) -> Path:
    if place.is_file() and place.suffix == ".npy":
        return place
    if (place / EMBEDDINGS).is_file():
        return place / EMBEDDINGS
    raise UsageError(f"{place} holds no embeddings: give a folder that evaluation.embed wrote, or "
                     f"its {EMBEDDINGS}.")
