"""The rows of a file in the place of images, and what stands for their paths; small for many rows."""
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.folders import within


@dataclass(eq=False)
class Texts(Sequence):
    """Strings in two arrays: each takes 8 bytes beside its own, where a list takes some 60."""

    data: bytearray = field(default_factory=bytearray)
    ends: array = field(default_factory=lambda: array("q", [0]))

    def append(self, text: str) -> None:
        """Add one."""
        self.data += text.encode()
        self.ends.append(len(self.data))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> str:
        return self.data[self.ends[i]:self.ends[i + 1]].decode()


@dataclass(eq=False)
class RowFile:
    """values (N, F), mapped into memory; digest of all of them; names: what the table calls each row's
    image, or None; root: the folder that the names are relative to.
    """

    path: Path
    values: np.ndarray
    digest: str
    names: Texts | None
    root: Path


@dataclass(eq=False)
class RowPaths(Sequence):
    """In the place of the paths of an ImageList: rows (n,) of a file. A Path is made when it is read."""

    file: RowFile
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Path:
        return self._image(i) or Path(self.name(i))

    def name(self, i: int) -> str:
        """What the table calls it, or else `row NUMBER`."""
        return self._named(i) or f"row {self.rows[i]}"

    def are_images(self) -> bool:
        """Whether the table names a file below its folder for each of them."""
        images = map(self._image, range(len(self)))
        return all(path is not None and path.is_file() for path in images)

    def _named(self, i: int) -> str:
        return self.file.names[self.rows[i]] if self.file.names else ""

    def _image(self, i: int) -> Path | None:
        """The file below the folder that the table names, if it names one."""
        name = self._named(i)
        return within(self.file.root, name) if name else None
