"""The state of training in a checkpoint, checked before a run continues from it.

A checkpoint may be of any origin, and each part of it of any type. What is not as a run saves it is
refused by name: otherwise it would end in a traceback, or in other numbers.
"""
import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from training.run import Run
from utilities.errors import RunError, UsageError, in_brief

# What every run saves, besides the parts that check themselves as they load.
PROGRESS = {
    "step": 0,
    "epoch": 0,
    "seconds": 0.0,
    "training_seconds": 0.0,
    "terms": None,
    "sums": None,
}
RECORDED = {"sums": {}, "counts": {}}
BEST = {"value": 0.0, "epoch": 0, "chosen_on": "", "metrics": {}}
KINDS = {float: Real}


@contextmanager
def damage_in_one_sentence() -> Iterator[None]:
    """Inside, an unforeseen error becomes a RunError: the state is of no run of ours."""
    try:
        yield
    except (RunError, UsageError):
        raise
    # The error's type depends on the part.
    except Exception as error:
        raise RunError(
            "The checkpoint's state of training is damaged, or of another version of the code "
            f"({in_brief(error)}): continue from another checkpoint of the run, or start a new run."
        ) from error


@damage_in_one_sentence()
def refuse_foreign(state: dict) -> None:
    """A RunError at a part of the state that no run has saved."""
    compare(PROGRESS, state["progress"], "progress")
    compare(RECORDED, state["recorder"], "recorder")
    compare([], state["records"], "records")
    compare([], state["history"], "history")
    if not state["history"]:
        raise ValueError("history is empty")
    for row in state["history"]:
        compare({"epoch": 0, "step": 0}, row, "history")
        refuse_other_than_numbers(row, "history")
    for name, entry in state["best"].items():
        compare(BEST, entry, f"best {name}")
        refuse_other_than_numbers(entry["metrics"], f"best {name}")


@damage_in_one_sentence()
def step_of(state: dict, loader: DataLoader) -> int:
    """The step at which the state was saved; a RunError where the sampler stands elsewhere."""
    progress = state["progress"]
    place = state["sampler"]
    own_place = loader.batch_sampler.sampler.state_dict()
    compare(own_place, place, "sampler")
    if place["seed"] != own_place["seed"]:
        raise ValueError(f"the sampler has the seed {place['seed']}")
    if progress["step"] != place["epoch"] * len(loader) + place["position"]:
        raise ValueError(f"the sampler does not stand at step {progress['step']}")
    # After the last batch of an epoch the sampler is already in the next one.
    behind = place["epoch"] - progress["epoch"]
    if behind not in ((0, 1) if place["position"] == 0 else (0,)):
        raise ValueError(f"the sampler is not in epoch {progress['epoch']}")
    return progress["step"]


def compare(own: Any, saved: Any, name: str) -> None:
    """A ValueError where a saved value is not of the kind of `own`, or lacks one of its entries.

    None stands for anything, a number for a finite one.
    """
    kind = KINDS.get(type(own), type(own))
    if own is not None and not isinstance(saved, kind):
        raise ValueError(f"{name} is {ascii(saved)[:40]}")
    if kind in (int, Real) and not math.isfinite(saved):
        raise ValueError(f"{name} is {saved}")
    for key in own if isinstance(own, dict) else ():
        compare(own[key], saved[key], f"{name} {key}")


def refuse_other_than_numbers(row: dict, name: str) -> None:
    """A ValueError where an entry is neither a number nor None."""
    if not all(isinstance(value, Real | None) for value in row.values()):
        raise ValueError(f"{name} holds other things than numbers")


@damage_in_one_sentence()
def load(run: Run, state: dict) -> None:
    """Continue `run` where the state was saved; a RunError where the state is of no such run."""
    refuse_other_optimizer(run.optimisation.optimizer, state["optimisation"]["optimizer"])
    run.load_state_dict(state)


def refuse_other_optimizer(optimizer: Optimizer, saved: dict) -> None:
    """A ValueError where settings are not those of the flags, or a state is not of its parameter."""
    groups = optimizer.state_dict()["param_groups"]
    for own, other in zip(groups, saved["param_groups"], strict=True):
        for name in own.keys() & other.keys() - {"lr"}:
            if own[name] != other[name]:
                raise ValueError(f"{name} of the optimizer is {ascii(other[name])[:40]}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, entries in saved["state"].items():
        for name, value in entries.items():
            refuse_other_entry(f"{name} of the optimizer", value, parameters[number])


def refuse_other_entry(name: str, value: Any, parameter: Tensor) -> None:
    """A ValueError where an entry of the optimizer's state is not of the parameter's kind."""
    compare(parameter.data, value, name)
    fits = value.shape in (parameter.shape, ())
    if not fits or not value.is_floating_point() or not value.isfinite().all():
        raise ValueError(f"{name} is of another shape or type, or not finite")
