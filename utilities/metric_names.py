"""What the name of a metric says of its values: their unit, and which of two is better."""
import math

# Metrics that are shown as they are; all others are shares.
NO_SHARES = ("dists@", "rho_spectrum@")
# Compact classes, few rejected pairs and an even spectrum are better. Of all others more is better.
LOWER_IS_BETTER = ("dists@intra", "fnmr@", "rho_spectrum@")


def is_share(metric: str) -> bool:
    """Whether a metric is shown in percent; val_METRIC is that of the validation classes."""
    return not metric.removeprefix("val_").startswith(NO_SHARES)


def is_lower_better(metric: str) -> bool:
    """Whether the lower of two values is the better one."""
    return metric.removeprefix("val_").startswith(LOWER_IS_BETTER)


def is_better(metric: str, value: float, other: float) -> bool:
    """Whether a value is better than another; NaN never is, and any number is better than NaN."""
    if math.isnan(value) or math.isnan(other):
        return not math.isnan(value)
    return value < other if is_lower_better(metric) else value > other
