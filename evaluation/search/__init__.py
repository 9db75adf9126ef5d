"""The images nearest to a query, among those that evaluation.embed has embedded.

The names are loaded when they are first used, so that the command starts without torch.
"""
from utilities.lazy import loader

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
__getattr__ = loader(__name__, FILES)
