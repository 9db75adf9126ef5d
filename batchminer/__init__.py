"""Miners by the names of `--batch_mining`: one file a miner, one line here."""
from batchminer.all_triplets import AllTriplets
from batchminer.base import Miner, Triplets
from batchminer.batch_hard import BatchHard
from batchminer.distance import DistanceWeighted
from batchminer.intra_random import IntraRandom
from batchminer.lifted import Lifted
from batchminer.multisimilarity import MultiSimilarityMiner
from batchminer.npair import NPair
from batchminer.parametric import Parametric
from batchminer.random_distance import RandomDistance
from batchminer.random_triplets import RandomTriplets
from batchminer.rho_distance import RhoDistance
from batchminer.semihard import Semihard
from batchminer.softhard import Softhard
from utilities.registry import accepted, lookup, own_class
from utilities.seed import RandomStream

__all__ = ["MINERS", "Miner", "Triplets", "select"]

MINERS: dict[str, type[Miner]] = {
    "all": AllTriplets,
    "batch_hard": BatchHard,
    "distance": DistanceWeighted,
    "intra_random": IntraRandom,
    "lifted": Lifted,
    "multisimilarity": MultiSimilarityMiner,
    "npair": NPair,
    "parametric": Parametric,
    "random": RandomTriplets,
    "random_distance": RandomDistance,
    "rho_distance": RhoDistance,
    "semihard": Semihard,
    "softhard": Softhard,
}
__all__ += [cls.__name__ for cls in MINERS.values()]


def select(name: str, seed: int = 0, **kwargs) -> Miner:
    """The miner called `name`: of MINERS, or `module.Class` of the user's own file.

    `none` is for the caller to know.
    """
    if "." in name:
        cls = own_class(name, Miner, ("seed",), "--batch_mining")
    else:
        cls = lookup(MINERS, name, "miner", "--batch_mining")
    miner = cls(**accepted(cls, {"seed": seed}), **kwargs)
    # also where its own constructor takes no seed
    miner.stream = RandomStream(seed)
    return miner
