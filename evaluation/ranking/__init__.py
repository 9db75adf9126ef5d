"""Exact ranking by inner product: `nearest` lists neighbours, `ranks` finds the rows of a class.

`with_context` adds neighbours to rows.
"""
from evaluation.ranking.class_ranks import Search, ranks
from evaluation.ranking.context import add_neighbours, check_neighbours, with_context
from evaluation.ranking.exact import row_blocks
from evaluation.ranking.neighbours import SearchOptions, check_finite, nearest
from evaluation.ranking.rows import Rows
from evaluation.ranking.spaces import centred, exact_unit, is_narrow, is_unit, scaled, searched
from evaluation.ranking.threads import TILE_SIDE, map_blocks

__all__ = ["TILE_SIDE", "Rows", "Search", "SearchOptions", "add_neighbours", "centred",
           "check_finite", "check_neighbours", "exact_unit", "is_narrow", "is_unit", "map_blocks",
           "nearest", "ranks", "row_blocks", "scaled", "searched", "with_context"]
