"""Which charts report.html has: metrics, losses, measurements, the policy and the context."""
import numpy as np

from evaluation.report.charts import Chart, Line, make_chart
from evaluation.report.context import CONTEXT, HELD_OUT, LOWEST
from evaluation.report.figures import column
from evaluation.report.progress import LOSSES, TERMS
from evaluation.run_files import Run
from utilities.metric_names import ENDS, is_share

Row = dict[str, float]
MEASURES = {
    "gradient_norm": "Norm of the gradient",
    "images_per_second": "Images per second",
    "data_wait": "Share of time spent waiting for images",
    "peak_memory_mib": "Peak memory (MiB)",
}
TERM_TITLES = TERMS | {"entropy": "Entropy term"}
POLICY = {
    "reward": "Reward (mean AP)",
    "advantage_over_uniform": "Advantage over uniform weights (AP)",
    "advantage_spread": "Spread of the advantage (AP)",
}
ADVANTAGE = f"{HELD_OUT}advantage"
POLICY_PAIRS = {
    "expected": "Expected action",
    "entropy": "Entropy (nats)",
    "correlation": "Correlation of largest weight and AP",
}


def metric_charts(run: Run) -> list[Chart]:
    """Every metric over the epochs, with its interval, on test and validation classes."""
    charts = []
    for metric in run.metrics:
        percent = is_share(metric)
        factor = 100 if percent else 1
        test = line(run.history, metric, "epoch", "test", factor)
        validation = line(run.history, f"val_{metric}", "epoch", "validation", factor)
        title = f"{metric} (%)" if percent else metric
        charts.append(make_chart(title, [test, validation], "epoch"))
    return existing(charts)


def training_charts(run: Run) -> list[Chart]:
    """Loss terms, and what else steps.csv has; without it, the losses of metrics.csv."""
    rows = run.steps or run.history
    over = "step" if run.steps else "epoch"
    names = dict.fromkeys(name for row in rows for name in row)
    losses = {name: label for name, (label, _) in LOSSES.items()}
    terms = {name: TERM_TITLES.get(name, name) for name in names if _is_term(run, name)}
    rates = {name: name.removeprefix("lr_") for name in names if name.startswith("lr_")}
    charts = [make_chart("Loss", lines(rows, losses, over), over)]
    charts += [make_chart(single.label, [single], over) for single in lines(rows, terms, over)]
    charts += [make_chart("Learning rate", lines(rows, rates, over), over, log=True)]
    charts += [make_chart(single.label, [single], over) for single in lines(rows, MEASURES, over)]
    return existing(charts)


def _is_term(run: Run, name: str) -> bool:
    """Whether a column is a loss term with a chart of its own."""
    known = {"epoch", "step", "seconds", *LOSSES, *MEASURES, *POLICY, *CONTEXT, *run.metrics}
    stem = name.removeprefix("val_").removesuffix("_low").removesuffix("_high")
    prefixes = ("lr_", HELD_OUT, *(f"{pair}_" for pair in POLICY_PAIRS))
    return stem not in known and not name.startswith(prefixes)


def policy_charts(run: Run) -> list[Chart]:
    """The policy at the steps of steps.csv, and its gain on held-out classes."""
    charts = []
    for name, title in POLICY_PAIRS.items():
        labels = {f"{name}_{sign}": f"{sign} pairs" for sign in ("positive", "negative")}
        charts.append(make_chart(title, lines(run.steps, labels, "step"), "step"))
    for name, title in POLICY.items():
        curves = lines(run.steps, {name: "training batches"}, "step")
        if name == "advantage_over_uniform":
            curves.append(held_out_line(run))
        charts.append(make_chart(title, curves, "step"))
    return existing(charts)


def held_out_line(run: Run) -> Line:
    """Advantage over uniform weights on held-out classes, plus and minus its standard error."""
    step = column(run.history, "step")
    value = column(run.history, ADVANTAGE)
    error = np.nan_to_num(column(run.history, f"{ADVANTAGE}_error"))
    return Line("held-out classes", np.stack([step, value, value - error, value + error], axis=1))


def context_charts(run: Run) -> list[Chart]:
    """The context at the steps of steps.csv, and on held-out classes."""
    charts = []
    for name, title in CONTEXT.items():
        curves = [
            line(run.steps, name, "step", "training batches"),
            line(run.history, HELD_OUT + name, "step", "held-out classes"),
        ]
        for single in curves:
            single.points[:, 1].clip(LOWEST, out=single.points[:, 1])
        charts.append(make_chart(title, curves, "step"))
    return existing(charts)


def lines(rows: list[Row], labels: dict[str, str], over: str) -> list[Line]:
    """The columns with these labels over another."""
    return [line(rows, name, over, label) for name, label in labels.items()]


def line(rows: list[Row], name: str, over: str, label: str, factor: float = 1) -> Line:
    """A column over another, with its interval where it has one."""
    values = [factor * column(rows, name + end) for end in ENDS]
    return Line(label, np.stack([column(rows, over), *values], axis=1))


def existing(charts: list[Chart | None]) -> list[Chart]:
    """The charts that show something."""
    return [chart for chart in charts if chart is not None]
