"""Slow versions of every criterion, miner, metric and policy input, as naive loops in float64.

Nothing here comes from the project, and nothing is vectorised: each line is a line of the
definition. A criterion's oracle is called as oracle(x, label, triplets, w_pos, w_neg, placement,
params, **constructor arguments) with rows x (B, D), a list of (a, p, n) or (a, p, n, second n),
weights (B, B), and params the learned arrays by name. A miner's oracle gives, for every anchor,
{(p, n): expected number in one call}; an empty one means that the anchor is left out.
"""
from tests.oracles.miners import MINER_ORACLES
from tests.oracles.pairs import PAIR_ORACLES
from tests.oracles.proxies import PROXY_ORACLES
from tests.oracles.rankings import RANKING_ORACLES

__all__ = ["MINER_ORACLES", "ORACLES"]

ORACLES = PAIR_ORACLES | RANKING_ORACLES | PROXY_ORACLES
