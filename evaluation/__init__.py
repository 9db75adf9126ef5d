"""Scores of an embedding, and the commands around it: `from evaluation import METRICS, evaluate`.

The names are loaded when they are first used, so that a command that computes nothing starts without torch.
"""
import importlib

__all__ = ["METRICS", "QueryMetric", "SetMetric", "evaluate", "parse_metric", "query_values"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("evaluation.metrics"), name)
