"""Tensors of what a program holds: numpy arrays, lists, labels of any kind."""
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from utilities.errors import UsageError, in_brief

# torch can store them, and little more
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
Rows = Tensor | np.ndarray
Labels = Tensor | np.ndarray | Sequence


def as_rows(rows: Rows | None) -> Tensor | None:
    """Embeddings (N, D) as a tensor; what is one already stays as it is."""
    if rows is None:
        return rows
    is_tensor = isinstance(rows, Tensor)
    array = rows if is_tensor else _array(rows, "embeddings")
    are_numbers = _are_real(array) if is_tensor else array.dtype.kind in "fiu"
    if not are_numbers:
        raise UsageError(f"evaluation: embeddings of type {array.dtype} are no real numbers; pass "
                         "an array or tensor (N, D) of them.")
    if is_tensor:
        return array.double() if array.dtype in UNSIGNED else array
    # what torch has no type or no arithmetic for
    if array.dtype.kind == "u" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(_plain(array))


def _are_real(rows: Tensor) -> bool:
    return not rows.is_complex() and rows.dtype != torch.bool


def as_labels(labels: Labels, gallery_labels: Labels | None) -> tuple[Tensor, Tensor | None]:
    """Labels (N,) and those of the gallery (G,), or None, as tensors of common numbers.

    Whole numbers stay as they are; of names, each gets a number.
    """
    given = [labels] if gallery_labels is None else [labels, gallery_labels]
    if not all(isinstance(part, Tensor) and _are_whole(part) for part in given):
        given = [part.detach().cpu() if isinstance(part, Tensor) else part for part in given]
        given = _numbered([_array(part, "labels") for part in given])
    return given[0], given[1] if len(given) > 1 else None


def _are_whole(labels: Tensor) -> bool:
    return not labels.is_floating_point() and _are_real(labels) and labels.dtype not in UNSIGNED


def _array(given: Rows | Labels, what: str) -> np.ndarray:
    """What is given as an array; a list of names or of large numbers as one of objects, since NumPy
    makes None and NaN names, and numbers of more than 64 bits real ones."""
    try:
        array = np.asarray(given)
        is_list = isinstance(given, list | tuple)
        if is_list and what == "labels" and array.dtype.kind in "fUS":
            return np.asarray(given, dtype=object)
    except ValueError as error:
        raise UsageError(f"evaluation: the {what} are no array ({in_brief(error)}).") from None
    return array


def _numbered(arrays: list[np.ndarray]) -> list[Tensor]:
    if all(np.can_cast(array.dtype, np.int64) for array in arrays):
        return [torch.from_numpy(_plain(array.astype(np.int64))) for array in arrays]
    # not at the start of every command
    from pandas import isna
    for array in arrays:
        if array.dtype.kind not in "US" and isna(array).any():
            raise UsageError("evaluation: a label is missing (None or NaN); leave its row out.")
    # uint64 and int64 have only float64 in common
    arrays = [array.astype(object) if array.dtype == np.uint64 else array for array in arrays]
    names = np.concatenate([array.ravel() for array in arrays])
    try:
        _, number = np.unique(names, return_inverse=True)
    except TypeError:
        raise UsageError("evaluation: the labels are of several types, such as names and numbers; "
                         "pass names alone.") from None
    numbers = torch.from_numpy(number).split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(numbers, arrays)]


def _plain(array: np.ndarray) -> np.ndarray:
    """The same numbers as torch takes them: in the machine's byte order and in theirs, writable."""
    native = array.dtype.newbyteorder("=")
    return np.require(array, native, ["C", "W"])
