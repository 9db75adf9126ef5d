"""Tensors of what a program holds: numpy arrays, lists, labels of any kind."""
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from utilities.errors import UsageError

Rows = Tensor | np.ndarray
Labels = Tensor | np.ndarray | Sequence


def as_rows(rows: Rows | None) -> Tensor | None:
    """Embeddings (N, D) as a tensor; what is one already stays as it is."""
    if rows is None:
        return rows
    is_tensor = isinstance(rows, Tensor)
    array = rows if is_tensor else np.asarray(rows)
    are_numbers = _are_real(array) if is_tensor else array.dtype.kind in "fiu"
    if not are_numbers:
        raise UsageError(f"evaluation: embeddings of type {array.dtype} are no real numbers; pass "
                         "an array or tensor (N, D) of them.")
    return array if is_tensor else torch.from_numpy(_plain(array))


def _are_real(rows: Tensor) -> bool:
    return not rows.is_complex() and rows.dtype != torch.bool


def as_labels(labels: Labels, gallery_labels: Labels | None) -> tuple[Tensor, Tensor | None]:
    """Labels (N,) and those of the gallery (G,), or None, as tensors of common numbers.

    Whole numbers stay as they are; of names, each gets a number.
    """
    given = [labels] if gallery_labels is None else [labels, gallery_labels]
    if not all(isinstance(part, Tensor) and _are_whole(part) for part in given):
        given = [part.detach().cpu() if isinstance(part, Tensor) else part for part in given]
        given = _numbered(list(map(np.asarray, given)))
    return given[0], given[1] if len(given) > 1 else None


def _are_whole(labels: Tensor) -> bool:
    return not labels.is_floating_point() and _are_real(labels)


def _numbered(arrays: list[np.ndarray]) -> list[Tensor]:
    if all(array.dtype.kind in "biu" for array in arrays):
        return [torch.from_numpy(_plain(array.astype(np.int64))) for array in arrays]
    # not at the start of every command
    from pandas import isna
    for array in arrays:
        if array.dtype.kind not in "US" and isna(array).any():
            raise UsageError("evaluation: a label is missing (None or NaN); leave its row out.")
    names = np.concatenate([array.ravel() for array in arrays])
    _, number = np.unique(names, return_inverse=True)
    numbers = torch.from_numpy(number).split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(numbers, arrays)]


def _plain(array: np.ndarray) -> np.ndarray:
    """The same numbers as torch takes them: in the machine's byte order and in theirs, writable."""
    native = array.dtype.newbyteorder("=")
    return np.require(array, native, ["C", "W"])
