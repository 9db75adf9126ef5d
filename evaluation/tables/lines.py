"""A line of a result table, as it is read and with all digits."""
import csv
import io
import math
from typing import NamedTuple

import numpy as np

from evaluation.tables.expected import Expected
from evaluation.tables.paired import Difference
from evaluation.tables.rows import Row
from utilities.cells import shown


class Cell(NamedTuple):
    """A metric of a row by seed, its difference to the baseline, and what was published."""

    values: dict[int, float]
    difference: Difference | None
    expected: Expected | None

    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(list(self.values.values())))

    def deviation(self) -> float | None:
        """The standard deviation over several seeds (n - 1)."""
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else None


class Line(NamedTuple):
    """A row, the one that it is compared with, and its cells by metric."""

    row: Row
    base: Row | None
    cells: dict[str, Cell]

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with this one."""
        return self.base is not None and self.base.name == self.row.name


def texts(line: Line, with_difference: bool) -> dict[str, str]:
    """The cells as they are read: percent, mean and deviation, the difference beside it, and what was published."""
    found = {"n": str(len(line.row.runs))}
    for metric, cell in line.cells.items():
        found[metric] = mean_text(metric, cell)
        if with_difference:
            found[f"Δ {metric}"] = "baseline" if line.is_baseline else difference_text(metric, cell.difference)
        if cell.expected:
            found[f"expected {metric}"] = shown(metric, cell.expected.share)
    published = [cell.expected for cell in line.cells.values() if cell.expected]
    if published:
        found |= {name: "; ".join(dict.fromkeys(getattr(number, name) for number in published))
                  for name in ("source", "selection")}
    return found


def mean_text(metric: str, cell: Cell) -> str:
    """Mean, and standard deviation where there are several."""
    if not cell.values:
        return "-"
    spread = cell.deviation()
    return shown(metric, cell.mean()) + ("" if spread is None else f" ± {shown(metric, spread)}")


def difference_text(metric: str, difference: Difference | None) -> str:
    """+1.4 [+0.2, +2.6] 4/5; without an interval for one pair."""
    if difference is None:
        return "-"
    low, high = (shown(metric, value, "+") for value in (difference.low, difference.high))
    interval = f" [{low}, {high}]" if difference.pairs > 1 else ""
    return f"{shown(metric, difference.mean, '+')}{interval} {difference.better}/{difference.pairs}"


def numbers(line: Line) -> dict[str, object]:
    """The line with all digits, shares from 0 to 1; None where there is nothing."""
    found: dict[str, object] = {"row": line.row.name, "n": len(line.row.runs),
                                "seeds": " ".join(map(str, sorted(line.row.runs))),
                                "baseline": line.base.name if line.base else None}
    for metric, cell in line.cells.items():
        found |= {f"{metric}_mean": cell.mean() if cell.values else None, f"{metric}_std": cell.deviation()}
        if line.base is not None and not line.is_baseline:
            difference = cell.difference or Difference(math.nan, math.nan, math.nan, better=0, pairs=0)
            found |= {f"{metric}_difference" if name == "mean" else f"{metric}_{name}": value
                      for name, value in difference._asdict().items() if not math.isnan(value)}
        if cell.expected:
            found |= {f"{metric}_expected": cell.expected.share, f"{metric}_source": cell.expected.source,
                      f"{metric}_selection": cell.expected.selection}
    return found


def as_csv(lines: list[dict[str, object]]) -> str:
    """The lines as CSV, with the columns of all."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue().rstrip("\n")
