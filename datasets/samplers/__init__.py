"""Batch samplers by the names of `--data_sampler`: which images make a batch."""
from collections.abc import Sequence

from datasets.samplers.base import BatchSampler
from datasets.samplers.batch_match import DistanceHistogramMatch, FrechetMatch
from datasets.samplers.by_class import ClassRandom, FullRandom
from datasets.samplers.coreset import D2Coreset, GreedyCoreset
from datasets.samplers.hierarchical import Hierarchical
from utilities.registry import accepted, lookup

__all__ = ["SAMPLERS", "BatchSampler", "select"]

SAMPLERS = {
    "class_random": ClassRandom,
    "d2_coreset": D2Coreset,
    "disthist_batchmatch": DistanceHistogramMatch,
    "fid_batchmatch": FrechetMatch,
    "greedy_coreset": GreedyCoreset,
    "hierarchical": Hierarchical,
    "random": FullRandom,
}
__all__ += [cls.__name__ for cls in SAMPLERS.values()]


def select(name: str, labels: Sequence[int], **kwargs) -> BatchSampler:
    """The batch sampler of this name; of the arguments it receives those that it has."""
    sampler = lookup(SAMPLERS, name, kind="batch sampler", flag="--data_sampler")
    return sampler(labels, **accepted(sampler, kwargs))
