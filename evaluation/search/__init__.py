"""The images nearest to a query, among those that evaluation.embed has embedded."""
from evaluation.search.embedded_set import EmbeddedSet, read_set
from evaluation.search.nearest import Hit, SearchResult, find
from evaluation.search.page import draw_results
from evaluation.search.queries import embed_queries, network_of
from evaluation.search.searcher import Searcher

__all__ = ["EmbeddedSet", "Hit", "SearchResult", "Searcher", "draw_results", "embed_queries",
           "find", "network_of", "read_set"]
