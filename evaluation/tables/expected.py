"""Published numbers to stand beside measured ones."""
import math
from pathlib import Path
from typing import NamedTuple

from utilities.errors import UsageError
from utilities.labels import read_lines

NOT_PUBLISHED = "not published"
COLUMNS = ("dataset", "row", "metric", "percent", "source", "selection")


class Expected(NamedTuple):
    """A published number (None: there is none), its source, and which classes chose its epoch."""

    share: float | None
    source: str
    selection: str


def read_expected(path: str) -> dict[tuple[str, str, str], Expected]:
    """The numbers in a CSV table with COLUMNS, by data set, row and metric.

    Raises UsageError for other files.
    """
    numbers = {}
    for line in read_lines(Path(path), COLUMNS, missing="give a table of published numbers."):
        key = (line["dataset"], line["row"], line["metric"])
        share = None
        if line["percent"] != NOT_PUBLISHED:
            share = _percent(line["percent"], line.where) / 100
        if key in numbers:
            raise UsageError(f"{line.where}: {', '.join(key)} stands in an earlier line too; leave one of "
                             "them out.")
        numbers[key] = Expected(share, line["source"], line["selection"])
    return numbers


def _percent(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise UsageError(f"{where}: {ascii(text)[1:-1][:40]} is not a percentage, nor "
                         f"'{NOT_PUBLISHED}'.")
    return value
