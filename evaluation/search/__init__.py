"""The images nearest to a query, among those that evaluation.embed has embedded.

The names are loaded when they are first used, so that the command starts without torch.
"""
import importlib

FILES = {
    "EmbeddedSet": "embedded_set",
    "Hit": "nearest",
    "SearchResult": "nearest",
    "Searcher": "searcher",
    "draw_results": "page",
    "embed_queries": "queries",
    "find": "nearest",
    "network_of": "queries",
    "read_set": "embedded_set",
}
__all__ = list(FILES)


def __getattr__(name: str):
    if name not in FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{FILES[name]}"), name)
