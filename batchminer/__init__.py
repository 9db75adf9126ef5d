"""Miners by the names of `--batch_mining`: one file a miner, one line here."""
from batchminer.base import Miner, Triplets
from batchminer.distance import DistanceWeighted
from batchminer.random_triplets import RandomTriplets
from batchminer.semihard import Semihard
from utilities.registry import lookup

__all__ = ["MINERS", "Miner", "Triplets", "select"]

MINERS: dict[str, type[Miner]] = {
    "distance": DistanceWeighted,
    "random": RandomTriplets,
    "semihard": Semihard,
}


def select(name: str, seed: int = 0, **kwargs) -> Miner:
    """The miner called `name`; `none` is for the caller to know."""
    return lookup(MINERS, name, "miner", "--batch_mining")(seed=seed, **kwargs)
