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
    array = rows.to_dense() if is_tensor else _array(rows, "embeddings")
    if is_tensor:
        are_numbers = not array.is_complex() and array.dtype != torch.bool
    else:
        are_numbers = array.dtype.kind in "fiu"
    if not are_numbers:
        raise UsageError(f"evaluation: embeddings of type {array.dtype} are no real numbers; pass "
                         "an array or tensor (N, D) of them.")
    if is_tensor:
        return array.double() if array.dtype in UNSIGNED else array
    # what torch has no type or no arithmetic for
    if array.dtype.kind == "u" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(_plain(array))


def as_labels(labels: Labels, gallery_labels: Labels | None) -> tuple[Tensor, Tensor | None]:
    """Labels (N,) and those of the gallery (G,), or None, as tensors of common numbers.

    Whole numbers stay as they are; of names, each gets a number.
    """
    given = [labels] if gallery_labels is None else [labels, gallery_labels]
    given = [part.detach().cpu().numpy() if isinstance(part, Tensor) else part for part in given]
    arrays = [_array(part, "labels") for part in given]
    if all(np.can_cast(array.dtype, np.int64) for array in arrays):
        numbers = [torch.from_numpy(_plain(array.astype(np.int64))) for array in arrays]
    else:
        # not at the start of every command
        from pandas import factorize
        # as objects: NumPy would make None and NaN names
        names = [np.asarray(part, dtype=object) for part in given]
        number, _ = factorize(np.concatenate([array.ravel() for array in names]), sort=True)
        if (number < 0).any():
            raise UsageError("evaluation: a label is missing (None or NaN); leave its row out.")
        parts = torch.from_numpy(number).split([array.size for array in names])
        numbers = [part.view(array.shape) for part, array in zip(parts, names)]
    return numbers[0], numbers[1] if len(numbers) > 1 else None


def _array(given: Rows | Labels, what: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:
        raise UsageError(f"evaluation: the {what} are no array ({in_brief(error)}).") from None


def _plain(array: np.ndarray) -> np.ndarray:
    """The same numbers as torch takes them: in the machine's byte order and in theirs, writable."""
    native = array.dtype.newbyteorder("=")
    return np.require(array, native, ["C", "W"])
