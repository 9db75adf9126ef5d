"""The state of training in a checkpoint, checked before a run continues from it.

A checkpoint may be of any origin, and each part of it of any type. What is not as a run saves it is
refused by name: otherwise it would end in a traceback, or in other numbers.
"""
import math
from numbers import Real
from typing import Any

from torch.utils.data import DataLoader

from training.run import Run
from utilities.errors import RunError, in_brief

# What every run saves, besides the parts that check themselves as they load.
PROGRESS = {"step": 0, "epoch": 0, "seconds": 0.0, "training_seconds": 0.0}
RECORDED = {"sums": {}, "counts": {}}
BEST = {"value": 0.0, "epoch": 0, "chosen_on": "", "metrics": {}}
KINDS = {float: Real}


def step_of(state: dict, loader: DataLoader) -> int:
    """The step at which the state was saved; a RunError where its parts are of no run of ours."""
    try:
        refuse_foreign(state, loader)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise misfit(error) from error
    return state["progress"]["step"]


def refuse_foreign(state: dict, loader: DataLoader) -> None:
    """A ValueError, or another error, at a part of the state that no such run has saved."""
    progress = state["progress"]
    place = state["sampler"]
    compare(PROGRESS, progress, "progress")
    compare(loader.batch_sampler.sampler.state_dict(), place, "sampler")
    if progress["step"] != place["epoch"] * len(loader) + place["position"]:
        raise ValueError(f"the sampler does not stand at step {progress['step']}")
    compare(RECORDED, state["recorder"], "recorder")
    compare([], state["records"], "records")
    compare([], state["history"], "history")
    for row in state["history"]:
        compare({"epoch": 0, "step": 0}, row, "history")
        if not all(isinstance(value, Real | None) for value in row.values()):
            raise ValueError("history holds other things than numbers")
    for name, entry in state["best"].items():
        compare(BEST, entry, f"best {name}")


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


def load(run: Run, state: dict) -> None:
    """Continue `run` where the state was saved; a RunError where the state is of no such run."""
    try:
        groups = state["optimisation"]["optimizer"]["param_groups"]
        for own, saved in zip(run.optimisation.optimizer.param_groups, groups):
            refuse_other_settings(own, saved)
        run.load_state_dict(state)
    # The error's type depends on the part.
    except Exception as error:
        raise misfit(error) from error


def refuse_other_settings(own: dict, saved: dict) -> None:
    """A ValueError where a group of the optimizer has other settings than the flags give."""
    for name in own.keys() & saved.keys() - {"params", "lr"}:
        if own[name] != saved[name]:
            raise ValueError(f"{name} of the optimizer is {ascii(saved[name])[:40]}")


def misfit(error: Exception) -> RunError:
    """The sentence for a state that no run continues from."""
    return RunError(
        "The checkpoint's state of training is damaged, or of another version of the code "
        f"({in_brief(error)}): continue from another checkpoint of the run, or start a new run."
    )
