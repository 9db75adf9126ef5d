"""Policy and context on classes that do not train: batches like those of training."""
import itertools
from collections.abc import Iterator

from criteria.method.context_health import has_health, held_out_context
from criteria.method.health import held_out_advantage
from datasets import batches, samplers
from datasets.base import Batch
from training.building import build_miner
from training.run import Run
from utilities.device import full_precision

PREFIX = "held_out_"  # of the columns of metrics.csv and steps.csv
CONTEXT = f"{PREFIX}context_"
BATCHES = 5  # of an evaluation while training


def fixed_batches(run: Run, split: str, at_most: int | None) -> Iterator[Batch] | None:
    """At most so many batches of the split's images, the same at each call.

    They are as large as those of training; fewer images make smaller ones. None without a whole one.
    """
    opt = run.opt
    loader = run.loaders[split]
    images = loader.dataset.images
    each = opt.samples_per_class
    classes = min(images.counts()[1], len(images.labels) // each, opt.bs // each)
    if not classes:
        return None
    sampler = samplers.select("class_random", labels=images.labels, bs=classes * each, seed=opt.seed,
                              samples_per_class=each)
    drawn = batches(loader.drawn_by(sampler, opt.seed), run.device)
    return itertools.islice(drawn, at_most)


def policy_gain(run: Run, split: str, at_most: int | None = None) -> dict | None:
    """`held_out_advantage` on `fixed_batches`, with a new miner the same at each call.

    None where there is no policy, no whole batch, or a loss that has parameters of its own classes.
    """
    method = run.method
    if not method.learns or method.base.is_class_specific():
        return None
    some = fixed_batches(run, split, at_most)
    if some is None:
        return None
    with full_precision(run.device):
        return held_out_advantage(method, run.network, build_miner(run.opt), some, run.device, run.opt.amp)


def context_health(run: Run, split: str, at_most: int) -> dict:
    """`held_out_context` on `fixed_batches`; empty without them, or where no context is decoded."""
    some = fixed_batches(run, split, at_most) if has_health(run.network) else None
    if some is None:
        return {}
    with full_precision(run.device):
        return held_out_context(run.method, run.network, some, run.device, run.opt.amp)


def columns(gain: dict | None, context: dict) -> dict:
    """The columns of what `policy_gain` and `context_health` measured."""
    values = dict(context)
    if gain:
        values |= {"advantage": gain["mean"], "advantage_error": gain["standard_error"]}
    return {PREFIX + name: value for name, value in values.items()}
