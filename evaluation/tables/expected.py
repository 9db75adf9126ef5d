"""Published numbers to stand beside measured ones."""
import csv
import math
from pathlib import Path
from typing import NamedTuple

from utilities.errors import UsageError

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
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        lines = list(csv.DictReader(text.splitlines()))
    except FileNotFoundError:
        raise UsageError(f"--expected {path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--expected {path} is not a csv table in UTF-8 ({error}).") from None
    numbers = {}
    for number, line in enumerate(lines, start=2):
        where = f"--expected {path}, line {number}"
        missing = [name for name in COLUMNS if not line.get(name)]
        if missing:
            raise UsageError(f"{where}: {missing[0]} is missing; the columns are "
                             f"{', '.join(COLUMNS)}.")
        key = (line["dataset"], line["row"], line["metric"])
        share = None
        if line["percent"] != NOT_PUBLISHED:
            share = _percent(line["percent"], where) / 100
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
