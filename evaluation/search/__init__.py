"""The images nearest to a query, among those that evaluation.embed has embedded."""
from evaluation.search.embedded_set import EmbeddedSet, read_set
from evaluation.search.nearest import Hit, SearchResult, find

__all__ = ["EmbeddedSet", "Hit", "SearchResult", "find", "read_set"]
