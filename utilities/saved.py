"""Files by torch.save: read without running anything in them, and without unpacking anything."""
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar

# How a file begins, and how one of before 2020 did.
ZIP = b"PK\x03\x04"
OLDER = b"\x80\x02\x8a\nl\xfc\x9c"
# Plain values beside tensors in files of other projects, such as their flags.
HARMLESS = [
    Namespace,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
]


def is_zip(path: Path) -> bool:
    """Whether torch.load takes the file for a zip archive."""
    with open(path, "rb") as file:
        return file.read(len(ZIP)) == ZIP


def load(path: Path) -> Any:
    """The content of a file by torch.save: tensors, numbers, text and plain containers of them.

    Anything else, and an archive with compressed parts, raises an error of any type: torch.save
    never compresses, and a small file could else fill the memory.
    """
    if is_zip(path):
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
        unpacked = sum(part.file_size for part in parts)
        if any(part.compress_type for part in parts) or unpacked > path.stat().st_size:
            raise ValueError("its parts are compressed, which torch.save never does")
    # Given a name, torch would look at its ending.
    with open(path, "rb") as file, torch.serialization.safe_globals(HARMLESS):
        return torch.load(file, map_location="cpu", weights_only=True)


def is_whole(path: Path) -> bool:
    """Whether the file is a zip archive whose parts have the checksums of its directory."""
    if not is_zip(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None
