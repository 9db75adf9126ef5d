"""What the name of a metric says of its values: their unit, and which of two is better."""
import math

# What a run costs, in the columns of tables beside its metrics.
COSTS = ("seconds_per_epoch", "peak_memory_mib")
# Metrics that are shown as they are; all others are shares.
NO_SHARES = ("dists@", "rho_spectrum@", *COSTS)
# Compact classes, few rejected pairs, an even spectrum and low costs are better. Of all others more
# is better.
LOWER_IS_BETTER = ("dists@intra", "fnmr@", "rho_spectrum@", *COSTS)
# what the name of a metric of rows with context begins with
CONTEXT = "ctx_"
# what is added to the name of a metric: itself, and the ends of its interval
ENDS = ("", "_low", "_high")


def reported(metrics: list[str], context: int) -> list[str]:
    """The metrics; where there is a context from the collection, also those of rows with it."""
    of_context = [CONTEXT + name for name in metrics] if context else []
    return [*metrics, *of_context]


def with_ends(metrics: list[str]) -> list[str]:
    """The names of the metrics and of the ends of their intervals."""
    return [metric + end for metric in metrics for end in ENDS]


def measured(row: dict, metrics: list[str], prefix: str = "") -> dict:
    """The metrics that a row has with the prefix, and the ends of their intervals."""
    names = with_ends(metrics)
    return {name: row[prefix + name] for name in names if prefix + name in row}


def _bare(metric: str) -> str:
    """The name of the metric itself; val_METRIC is that of the validation classes."""
    return metric.removeprefix("val_").removeprefix(CONTEXT)


def is_share(metric: str) -> bool:
    """Whether a metric is shown in percent."""
    return not _bare(metric).startswith(NO_SHARES)


def is_lower_better(metric: str) -> bool:
    """Whether the lower of two values is the better one."""
    return _bare(metric).startswith(LOWER_IS_BETTER)


def is_better(metric: str, value: float, other: float) -> bool:
    """Whether a value is better than another; NaN never is, and any number is better than NaN."""
    if math.isnan(value) or math.isnan(other):
        return not math.isnan(value)
    return value < other if is_lower_better(metric) else value > other
