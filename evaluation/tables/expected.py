"""Published numbers to stand beside measured ones."""
import csv
import math
from pathlib import Path
from typing import NamedTuple

from utilities.errors import UsageError

COLUMNS = ("dataset", "row", "metric", "percent", "source", "selection")


class Expected(NamedTuple):
    """A published number: where it is from, and which classes have chosen its epoch."""

    share: float
    source: str
    selection: str


def read_expected(path: str) -> dict[tuple[str, str, str], Expected]:
    """The numbers in a CSV table with COLUMNS, by data set, row and metric; a UsageError for other files."""
    try:
        lines = list(csv.DictReader(Path(path).read_text(encoding="utf-8-sig").splitlines()))
    except FileNotFoundError:
        raise UsageError(f"--expected {path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--expected {path} is not a csv table in UTF-8 ({error}).") from None
    found = {}
    for number, line in enumerate(lines, start=2):
        if missing := [name for name in COLUMNS if not line.get(name)]:
            raise UsageError(f"--expected {path}, line {number}: {missing[0]} is missing; the columns are "
                             f"{', '.join(COLUMNS)}.")
        found[line["dataset"], line["row"], line["metric"]] = Expected(
            _percent(line["percent"], f"--expected {path}, line {number}") / 100, line["source"], line["selection"])
    return found


def _percent(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise UsageError(f"{where}: {ascii(text)[1:-1][:40]} is not a percentage.")
    return value
