"""The metrics of a run as the report shows them: untrained, best, final, on validation classes."""
from typing import NamedTuple

from evaluation.pages import shorten
from evaluation.run_files import Run, row_numbers
from utilities.cells import NO_SHARES, metric_names, shown, with_interval

HEADLINES = 4  # metrics in large type


class Card(NamedTuple):
    """A metric in large type, its unit, and other values of it."""

    metric: str
    value: str
    unit: str
    others: list[str]


def scores(run: Run) -> dict[str, dict[str, float]]:
    """The metrics and intervals: untrained, final, each best checkpoint, validation classes."""
    names = [name + end for name in run.metrics for end in ("", "_low", "_high")]
    evaluated = [row for row in run.history if not row.keys().isdisjoint(names)] or [{}]
    first = part(evaluated[0], names)
    last = part(evaluated[-1], names)
    epoch = evaluated[-1].get("epoch", 0)
    rows = {"untrained": run.result["untrained"] or first}
    rows["final" if run.finished else f"epoch {epoch:.0f}"] = run.result["final"] or last
    rows |= best_rows(run)
    rows["validation classes, last"] = part(evaluated[-1], names, prefix="val_")
    return {name: row for name, row in rows.items() if row}


def part(row: dict[str, float], names: list[str], prefix: str = "") -> dict[str, float]:
    """The values of these names, as far as the row has them with the prefix."""
    return {name: row[prefix + name] for name in names if prefix + name in row}


def best_rows(run: Run) -> dict[str, dict[str, float]]:
    """The metrics of each best checkpoint; entries of another form are left out."""
    best = run.result.get("best")
    rows = {}
    for name, entry in best.items() if isinstance(best, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("metrics"), dict):
            source = f"epoch {entry.get('epoch')}, by {entry.get('chosen_on')}"
            rows[f"best {name} ({shorten(source)})"] = row_numbers(entry["metrics"])
    return rows


def cards(run: Run, columns: dict[str, dict[str, float]]) -> list[Card]:
    """The last values of HEADLINES metrics, first those that choose the checkpoint."""
    last = [row for name, row in columns.items() if name.startswith(("final", "epoch"))]
    if not last:
        return []
    wanted = dict.fromkeys([*run.names("storage_metrics"), *metric_names(last[0])])
    metrics = [metric for metric in wanted if metric in last[0]]
    return [_card(metric, last[0][metric], columns) for metric in metrics[:HEADLINES]]


def _card(metric: str, value: float, columns: dict[str, dict[str, float]]) -> Card:
    others = []
    for name, row in columns.items():
        label = name.partition(" (")[0].removesuffix(f" {metric}")
        if label in ("untrained", "best") and metric in row:
            others.append(f"{label} {shown(metric, row[metric])}")
    unit = "" if metric.startswith(NO_SHARES) else " %"
    return Card(metric, shown(metric, value), unit, others)


def metric_lines(columns: dict[str, dict[str, float]]) -> list[list[str]]:
    """The head and the rows of the table of all metrics, with intervals where there are any."""
    metrics = dict.fromkeys(metric for row in columns.values() for metric in metric_names(row))
    lines = [["metric", *columns]]
    for metric in metrics:
        rows = columns.values()
        cells = [with_interval(row, metric) if metric in row else "–" for row in rows]
        lines.append([metric, *cells])
    return lines
