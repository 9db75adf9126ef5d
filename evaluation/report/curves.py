"""The curves of report.html: metrics, losses, what was measured, and the policy."""
import numpy as np

from evaluation.run_files import Run, row_numbers
from utilities.cells import NO_SHARES
from utilities.html import Element, element, section
from utilities.plots import LOSSES
from utilities.svg import Line, chart

MEASURES = {"gradient_norm": "Gradient norm", "images_per_second": "Images a second",
            "data_wait": "Share of the time spent waiting for images", "peak_memory_mib": "Peak memory (MiB)"}
POLICY = {"reward": "Reward (mean AP)", "advantage_over_uniform": "Advantage over uniform weights",
          "advantage_spread": "Spread of the advantage"}
HELD_OUT = "held_out_advantage"
POLICY_PAIRS = {"expected": "Expected action", "entropy": "Entropy (nats)",
                "correlation": "Correlation of an image's largest weight with its AP"}


def metric_curves(run: Run) -> Element | None:
    """Every metric over the epochs, with its interval, and on validation classes where there are some."""
    charts = []
    for metric in run.metrics:
        factor = 1 if metric.startswith(NO_SHARES) else 100
        lines = [_line(run.history, metric, "test", "epoch", factor),
                 _line(run.history, f"val_{metric}", "validation", "epoch", factor)]
        charts.append(chart(f"{metric} (%)" if factor > 1 else metric, lines, "epoch"))
    return grid("Metrics over the training", charts)


def training_curves(run: Run) -> Element | None:
    """Loss terms, and what else steps.csv has; of a run without it the losses of metrics.csv."""
    rows, over = (run.steps, "step") if run.steps else (run.history, "epoch")
    names = list(dict.fromkeys(name for row in rows for name in row))
    rates = [name for name in names if name.startswith("lr_")]
    losses = [_line(rows, name, label, over) for name, (label, _) in LOSSES.items() if name in names]
    charts = [chart("Loss", losses, over)]
    charts += [chart(name, [_line(rows, name, name, over)], over) for name in names if _is_term(run, name)]
    charts.append(chart("Learning rate", [_line(rows, name, name.removeprefix("lr_"), over) for name in rates], over,
                        log=True))
    charts += [chart(title, [_line(rows, name, title, over)], over) for name, title in MEASURES.items()]
    return grid("Training", charts)


def _is_term(run: Run, name: str) -> bool:
    """Whether a column is a loss term with a chart of its own."""
    known = {"epoch", "step", "seconds", HELD_OUT, f"{HELD_OUT}_error", *LOSSES, *MEASURES, *POLICY, *run.metrics}
    stem = name.removeprefix("val_").removesuffix("_low").removesuffix("_high")
    return stem not in known and not name.startswith(("lr_", *(f"{pair}_" for pair in POLICY_PAIRS)))


def policy_curves(run: Run) -> Element | None:
    """How the policy did at the steps of steps.csv, and what it was worth on held-out classes."""
    charts = [chart(title, [_line(run.steps, f"{name}_{sign}", f"{sign} pairs", "step")
                            for sign in ("positive", "negative")], "step") for name, title in POLICY_PAIRS.items()]
    for name, title in POLICY.items():
        lines = [_line(run.steps, name, "batches that train", "step")]
        charts.append(chart(title, lines + [_held_out(run)] * (name == "advantage_over_uniform"), "step"))
    worth = run.result.get("held_out_advantage_over_uniform")
    worth = row_numbers(worth) if isinstance(worth, dict) else {}
    words = None
    if "mean" in worth:
        error = f" ± {worth['standard_error']:.4f}" if "standard_error" in worth else ""
        words = element("p", f"Advantage over uniform weights on held-out classes: {worth['mean']:+.4f}{error} (mean "
                             f"AP after the virtual step, {worth.get('batches', 0):.0f} batches, standard error).")
    return grid("Policy", charts, words)


def _held_out(run: Run) -> Line:
    """Advantage over uniform weights on held-out classes at every evaluation, with its standard error."""
    held = [row for row in run.history if HELD_OUT in row and "step" in row]
    x, y = np.array([row["step"] for row in held]), np.array([row[HELD_OUT] for row in held])
    error = np.array([row.get(f"{HELD_OUT}_error", 0.0) for row in held])
    return Line("classes held out", x, y, y - error, y + error)


def _line(rows: list[dict[str, float]], name: str, label: str, over: str, factor: float = 1) -> Line:
    """A column over another, with its interval where every value has one."""
    held = [row for row in rows if name in row and over in row]
    low, high = (np.array([factor * row[name + end] for row in held]) if held and all(name + end in row for row in held)
                 else None for end in ("_low", "_high"))
    x, y = np.array([row[over] for row in held]), np.array([factor * row[name] for row in held])
    return Line(label, x, y) if low is None or high is None else Line(label, x, y, low, high)


def grid(title: str, charts: list[Element | None], words: Element | None = None) -> Element | None:
    """Charts side by side as far as they fit; None where there is none."""
    there = [figure for figure in charts if figure is not None]
    if not there and words is None:
        return None
    return section(title, words, element("div", *there, class_="charts"))
