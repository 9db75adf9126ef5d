"""Metrics of an embedding, and the commands around them: `from evaluation import METRICS, evaluate`.

A name is loaded when it is first used, so that a command that computes nothing starts without torch.
"""
import importlib

MODULES = {
    "METRICS": "evaluation.metrics",
    "QueryMetric": "evaluation.metrics",
    "SetMetric": "evaluation.metrics",
    "parse_metric": "evaluation.metrics",
    "evaluate": "evaluation.metrics.values",
    "query_values": "evaluation.metrics.values",
}
__all__ = list(MODULES)  # noqa: PLE0605


def __getattr__(name: str):
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(MODULES[name]), name)
