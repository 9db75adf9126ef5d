"""The lines of a result table, as they are read and with all digits."""
import math
from typing import NamedTuple

import pandas as pd

from evaluation.tables.expected import NOT_PUBLISHED, Expected
from evaluation.tables.paired import Difference, paired_difference
from evaluation.tables.rows import TableRow
from utilities.cells import shown, spreadsheet_text
from utilities.metric_names import is_lower_better

NO_PAIRS = Difference(math.nan, math.nan, math.nan, better=0, pairs=0)


class MetricCell(NamedTuple):
    """A metric of a row by seed, its difference to the baseline, and what was published."""

    values: pd.Series
    difference: Difference | None
    expected: Expected | None


class TableLine(NamedTuple):
    """A row, the row that it is compared with, and its cells by metric."""

    row: TableRow
    base: TableRow | None
    cells: dict[str, MetricCell]


def table_line(row: TableRow, base: TableRow | None, metrics: list[str],
               expected: dict[tuple[str, str, str], Expected]) -> TableLine:
    """The cells of a row; a baseline has no difference to itself."""
    cells = {}
    for metric in metrics:
        values = row.of(metric)
        difference = None
        if base is not None and base is not row:
            difference = paired_difference(values, base.of(metric),
                                           lower_is_better=is_lower_better(metric)) or NO_PAIRS
        published = expected.get((row.flags.get("dataset"), row.name, metric))
        cells[metric] = MetricCell(values, difference, published)
    return TableLine(row, base, cells)


def texts(line: TableLine, with_difference: bool) -> dict[str, str]:
    """The cells as they are read: percent, mean ± std, difference, and what was published."""
    columns = {"n": str(len(line.row.runs))}
    sources = []
    selections = []
    for metric, cell in line.cells.items():
        columns[metric] = mean_text(metric, cell.values)
        if with_difference:
            is_baseline = line.base is line.row
            columns[f"Δ {metric}"] = ("baseline" if is_baseline
                                      else difference_text(metric, cell.difference))
        if cell.expected:
            share = cell.expected.share
            columns[f"expected {metric}"] = NOT_PUBLISHED if share is None else shown(metric, share)
            sources.append(cell.expected.source)
            selections.append(cell.expected.selection)
    if sources:
        columns["source"] = "; ".join(dict.fromkeys(sources))
        columns["selection"] = "; ".join(dict.fromkeys(selections))
    return columns


def mean_text(metric: str, values: pd.Series) -> str:
    """60.0 ± 14.1; without the standard deviation (n - 1) for one run, or an infinite one."""
    if values.empty:
        return "-"
    text = shown(metric, values.mean())
    if not math.isnan(values.std()):
        text += f" ± {shown(metric, values.std())}"
    return text


def difference_text(metric: str, difference: Difference | None) -> str:
    """+1.4 [+0.2, +2.6] 4/5; without an interval for one pair, - 4/5 with an infinite one."""
    if difference is None or not difference.pairs:
        return "-"
    text = "-" if math.isnan(difference.mean) else shown(metric, difference.mean, "+")
    if not math.isnan(difference.low):
        low = shown(metric, difference.low, "+")
        high = shown(metric, difference.high, "+")
        text += f" [{low}, {high}]"
    return f"{text} {difference.better}/{difference.pairs}"


def as_csv(lines: list[TableLine]) -> str:
    """The lines with all digits, shares from 0 to 1; empty where there is nothing."""
    # object: a column with gaps keeps its whole numbers whole
    table = pd.DataFrame([numbers(line) for line in lines], dtype=object)
    return table.to_csv(index=False, lineterminator="\n").rstrip("\n")


def numbers(line: TableLine) -> dict[str, object]:
    """A line of the CSV table."""
    columns: dict[str, object] = {
        "row": spreadsheet_text(line.row.name),
        "n": len(line.row.runs),
        "seeds": " ".join(map(str, sorted(line.row.runs))),
        "baseline": spreadsheet_text(line.base.name) if line.base else None,
    }
    for metric, cell in line.cells.items():
        columns[f"{metric}_mean"] = cell.values.mean()
        columns[f"{metric}_std"] = cell.values.std()
        if cell.difference:
            for name, value in cell.difference._asdict().items():
                if not math.isnan(value):
                    columns[f"{metric}_{'difference' if name == 'mean' else name}"] = value
        if cell.expected:
            columns[f"{metric}_expected"] = cell.expected.share
            columns[f"{metric}_source"] = spreadsheet_text(cell.expected.source)
            columns[f"{metric}_selection"] = spreadsheet_text(cell.expected.selection)
    return columns
