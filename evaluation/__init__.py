"""Metrics of an embedding, and the commands around them: `from evaluation import METRICS, evaluate`.

A name is loaded when it is first used, so that a command that computes nothing starts without torch.
"""
from utilities.lazy import loader

MODULES = {
    "METRICS": "metrics",
    "QueryMetric": "metrics",
    "SetMetric": "metrics",
    "parse_metric": "metrics",
    "evaluate": "metrics.values",
    "query_values": "metrics.values",
}
__all__ = list(MODULES)  # noqa: PLE0605
__getattr__ = loader(__name__, MODULES)
