"""Which charts report.html has: metrics, losses, measurements, and the policy."""
import math

import numpy as np

from evaluation.report.charts import Chart, Line, make_chart
from evaluation.report.progress import LOSSES
from evaluation.run_files import Run
from utilities.cells import NO_SHARES

Row = dict[str, float]
MEASURES = {
    "gradient_norm": "Gradient norm",
    "images_per_second": "Images a second",
    "data_wait": "Share of the time spent waiting for images",
    "peak_memory_mib": "Peak memory (MiB)",
}
POLICY = {
    "reward": "Reward (mean AP)",
    "advantage_over_uniform": "Advantage over uniform weights",
    "advantage_spread": "Spread of the advantage",
}
HELD_OUT = "held_out_advantage"
POLICY_PAIRS = {
    "expected": "Expected action",
    "entropy": "Entropy (nats)",
    "correlation": "Correlation of an image's largest weight with its AP",
}
SIGNS = ("positive", "negative")


def metric_charts(run: Run) -> list[Chart]:
    """Every metric over the epochs, with its interval, and on validation classes where there are any."""
    charts = []
    for metric in run.metrics:
        is_share = not metric.startswith(NO_SHARES)
        factor = 100 if is_share else 1
        lines = [
            line(run.history, metric, "epoch", "test", factor),
            line(run.history, f"val_{metric}", "epoch", "validation", factor),
        ]
        charts.append(make_chart(f"{metric} (%)" if is_share else metric, lines, "epoch"))
    return existing(charts)


def training_charts(run: Run) -> list[Chart]:
    """Loss terms, and what else steps.csv has; without it, the losses of metrics.csv."""
    rows = run.steps or run.history
    over = "step" if run.steps else "epoch"
    names = dict.fromkeys(name for row in rows for name in row)
    losses = [line(rows, name, over, label) for name, (label, _) in LOSSES.items()]
    terms = {name: name for name in names if _is_term(run, name)}
    rates = [name for name in names if name.startswith("lr_")]
    rates = [line(rows, name, over, name.removeprefix("lr_")) for name in rates]
    charts = [make_chart("Loss", losses, over)]
    charts += [make_chart(title, [line(rows, name, over, title)], over) for name, title in terms.items()]
    charts += [make_chart("Learning rate", rates, over, log=True)]
    charts += [make_chart(title, [line(rows, name, over, title)], over) for name, title in MEASURES.items()]
    return existing(charts)


def _is_term(run: Run, name: str) -> bool:
    """Whether a column is a loss term with a chart of its own."""
    known = {"epoch", "step", "seconds", HELD_OUT, f"{HELD_OUT}_error"}
    known |= {*LOSSES, *MEASURES, *POLICY, *run.metrics}
    stem = name.removeprefix("val_").removesuffix("_low").removesuffix("_high")
    prefixes = ("lr_", *(f"{pair}_" for pair in POLICY_PAIRS))
    return stem not in known and not name.startswith(prefixes)


def policy_charts(run: Run) -> list[Chart]:
    """The policy at the steps of steps.csv, and its gain on held-out classes."""
    charts = []
    for name, title in POLICY_PAIRS.items():
        lines = [line(run.steps, f"{name}_{sign}", "step", f"{sign} pairs") for sign in SIGNS]
        charts.append(make_chart(title, lines, "step"))
    for name, title in POLICY.items():
        lines = [line(run.steps, name, "step", "training batches")]
        if name == "advantage_over_uniform":
            lines.append(held_out_line(run))
        charts.append(make_chart(title, lines, "step"))
    return existing(charts)


def held_out_line(run: Run) -> Line:
    """Advantage over uniform weights on held-out classes, plus and minus its standard error."""
    step = column(run.history, "step")
    value = column(run.history, HELD_OUT)
    error = np.nan_to_num(column(run.history, f"{HELD_OUT}_error"))
    return Line("held-out classes", np.stack([step, value, value - error, value + error], axis=1))


def line(rows: list[Row], name: str, over: str, label: str, factor: float = 1) -> Line:
    """A column over another, with its interval where it has one."""
    values = [factor * column(rows, name + end) for end in ("", "_low", "_high")]
    return Line(label, np.stack([column(rows, over), *values], axis=1))


def column(rows: list[Row], name: str) -> np.ndarray:
    """The values of a name, (rows,), NaN where a row has none."""
    return np.array([row.get(name, math.nan) for row in rows], dtype=float)


def existing(charts: list[Chart | None]) -> list[Chart]:
    """The charts that show something."""
    return [chart for chart in charts if chart is not None]
