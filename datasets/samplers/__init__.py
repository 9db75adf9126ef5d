"""Batch samplers by the names of `--data_sampler`: which images make a batch."""
import inspect
from collections.abc import Sequence

from datasets.samplers.base import BatchSampler
from datasets.samplers.batch_match import DistanceHistogramMatch, FrechetMatch
from datasets.samplers.by_class import ClassRandom, FullRandom
from datasets.samplers.coreset import D2Coreset, GreedyCoreset
from datasets.samplers.hierarchical import Hierarchical
from utilities.registry import lookup

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


def select(name: str, labels: Sequence[int], bs: int, samples_per_class: int, seed: int = 0,
           rank: int = 0, world: int = 1, **further) -> BatchSampler:
    """The batch sampler of this name; of `further` arguments it receives those that it has."""
    sampler = lookup(SAMPLERS, name, kind="batch sampler", flag="--data_sampler")
    own = arguments(sampler)
    further = {argument: value for argument, value in further.items() if argument in own}
    return sampler(labels, bs=bs, samples_per_class=samples_per_class, seed=seed, rank=rank,
                   world=world, **further)


def arguments(sampler: type[BatchSampler]) -> set[str]:
    """The arguments of a sampler beyond those of all: its own and those of the classes that it
    derives from.
    """
    names = {name for cls in sampler.__mro__ for name in inspect.signature(cls).parameters}
    return names - {"args", "kwargs", *inspect.signature(BatchSampler).parameters}
