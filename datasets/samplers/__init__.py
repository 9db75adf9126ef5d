"""Batch samplers by the names of `--data_sampler`: which images make a batch."""
from collections.abc import Sequence

from datasets.samplers.base import BatchSampler
from datasets.samplers.by_class import ClassRandom, FullRandom
from utilities.registry import lookup

__all__ = ["SAMPLERS", "BatchSampler", "select"]

SAMPLERS = {"class_random": ClassRandom, "random": FullRandom}


def select(name: str, labels: Sequence[int], bs: int, samples_per_class: int, seed: int = 0, rank: int = 0,
           world: int = 1) -> BatchSampler:
    """The batch sampler of this name."""
    sampler = lookup(SAMPLERS, name, kind="batch sampler", flag="--data_sampler")
    return sampler(labels, bs=bs, samples_per_class=samples_per_class, seed=seed, rank=rank, world=world)
