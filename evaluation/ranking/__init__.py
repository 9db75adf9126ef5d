"""Exact ranking by inner product: `nearest` lists neighbours, `ranks` finds the rows of a class."""
from evaluation.ranking.class_ranks import Search, ranks
from evaluation.ranking.exact import row_blocks
from evaluation.ranking.neighbours import SearchOptions, check_finite, nearest
from evaluation.ranking.spaces import is_unit, searched
from evaluation.ranking.threads import TILE_SIDE, map_blocks

__all__ = ["TILE_SIDE", "Search", "SearchOptions", "check_finite", "is_unit", "map_blocks",
           "nearest", "ranks", "row_blocks", "searched"]
