"""Rows that are written batch by batch, so that an interrupted call can continue.

ROWS holds a float32 row for each of the first images, infinite where the image is damaged, and
WORK what the rows follow from. Both lie in the folder of the embeddings until all is done.
"""
import os
from pathlib import Path
from typing import Any

import numpy as np

from utilities.errors import RunError, UsageError
from utilities.files import read_json
from utilities.logger import write_json

ROWS = "unfinished.rows"
WORK = "unfinished.json"


def is_begun(out: Path) -> bool:
    """Whether there are rows in this folder to continue from."""
    return (out / ROWS).exists() and (out / WORK).exists()


def begin_or_continue(out: Path, work: dict[str, Any], dimensions: int, batch_size: int) -> int:
    """The number of images that are done, in whole batches; rows behind them are cut off.

    A row is done if its length is one or infinite: after a loss of power, the end of a file can
    be zero. Raises UsageError where other work was begun.
    """
    if not is_begun(out):
        write_json(out / WORK, work)
        (out / ROWS).write_bytes(b"")
    _refuse_other_work(out, work)
    rows = read_rows(out, dimensions)
    square = np.einsum("nd,nd->n", rows, rows)  # (n,)
    is_done = (np.abs(square - 1) < 1e-3) | np.isinf(square)
    done = int(np.logical_and.accumulate(is_done).sum()) // batch_size * batch_size
    os.truncate(out / ROWS, done * dimensions * rows.itemsize)
    return done


def read_work(out: Path) -> dict[str, Any]:
    """What the rows so far follow from."""
    work = read_json(out / WORK)
    if not work:
        raise RunError(f"{out / WORK} is damaged; remove it to begin anew.")
    return work


def _refuse_other_work(out: Path, work: dict[str, Any]) -> None:
    begun = read_work(out)
    differing = [f"{key} {_short(begun.get(key))} there, {_short(value)} now"
                 for key, value in work.items() if begun.get(key) != value]
    if differing:
        raise UsageError(f"{out} holds embeddings that were begun otherwise "
                         f"({'; '.join(differing)}); give the command as it was begun, name "
                         f"another --out, or remove {WORK}.")


def _short(value: Any) -> str:
    return str(value)[:60]


def read_rows(out: Path, dimensions: int) -> np.ndarray:
    """The rows so far, (n, D)."""
    numbers = np.fromfile(out / ROWS, "<f4")
    whole = len(numbers) // dimensions
    return numbers[:whole * dimensions].reshape(whole, dimensions)


def remove_unfinished(out: Path) -> None:
    """Remove both files."""
    for name in (ROWS, WORK):
        (out / name).unlink(missing_ok=True)
