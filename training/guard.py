"""What stops a run early: a non-finite loss, a device without memory; always in one sentence."""
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from criteria.method import LossTerms
from utilities.errors import RunError

NAMED = 8   # images of a batch that a message names
GRADIENT = "gradient_norm"
FULL_GPU = ("CUDA error: out of memory", "ALLOC_FAILED")                           # of the driver, of cuBLAS and cuDNN
FULL_MACHINE = ("can't allocate memory", "not enough memory")


@dataclass
class FiniteGuard:
    """Watches every step for a loss or gradient that is no number, on the device, and tells of the first one when it is
    asked.

    Reading a number of the GPU in every step would make the host wait; so the step, the terms and the images of the
    first bad batch are kept on the device until a step at which the host reads anyway.
    """

    # index of an image -> its file
    names: Callable[[int], str]
    terms: list[str] = field(default_factory=list)
    first: tuple[Tensor, Tensor, Tensor] | None = None

    def watch(self, step: int, terms: LossTerms, index: Tensor) -> None:
        """Look at the terms of a step, its gradient's norm under the name GRADIENT among them, and at the images (B,)
        that they are of; no synchronisation."""
        self.terms = list(terms)
        values = torch.stack([term.detach() for term in terms.values()])  # (T,)
        bad_step = torch.where(values.isfinite().all(), -1, step)
        now = (bad_step, values, index)
        if self.first is None:
            self.first = now
            return
        seen = self.first[0] >= 0
        self.first = tuple(torch.where(seen, old, new) for old, new in zip(self.first, now))

    def check(self) -> None:
        """A RunError where a step was bad; reads the device."""
        if self.first is None or int(self.first[0]) < 0:
            return
        step, values, index = self.first
        numbers = dict(zip(self.terms, values.tolist()))
        listing = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        numbers.pop(GRADIENT, None)
        bad = "gradient" if all(map(math.isfinite, numbers.values())) else "loss"
        images = [self.names(i) for i in index[:NAMED].tolist()]
        more = f" and {len(index) - NAMED} more" if len(index) > NAMED else ""
        raise RunError(f"The {bad} is not finite at step {int(step)} ({listing}), of the images {', '.join(images)}"
                       f"{more}. The last checkpoint before it is in the run's folder; a lower --lr, or --grad_clip, "
                       "is the usual cure.")


def refuse_infinite(step: int, parameters: Iterable[tuple[str, Tensor]]) -> None:
    """A RunError where named parameters hold numbers that are not finite, as after an update that was too large."""
    are_finite = {name: parameter.isfinite().all() for name, parameter in parameters}
    # a network without a projection on rows has no parameters
    if not are_finite or torch.stack(list(are_finite.values())).all():
        return
    first = next(name for name, is_finite in are_finite.items() if not is_finite)
    raise RunError(f"The weights are not finite after step {step} (the first are {first}). The last checkpoint before "
                   "it is in the run's folder; a lower --lr, or --grad_clip, is the usual cure.")


@contextlib.contextmanager
def room_for(what: str, advice: str) -> Iterator[None]:
    """Memory that does not suffice, of a GPU or of the machine, becomes one sentence with the flags that help."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if says(error, torch.OutOfMemoryError, FULL_GPU):
            full = "GPU"
        elif says(error, MemoryError, FULL_MACHINE):
            full = "machine"
        else:
            raise
        raise RunError(f"The {full} has no memory left for {what}: pass {advice}.") from error


def says(error: Exception, kind: type[Exception], words: tuple[str, ...]) -> bool:
    """Whether an error is of a kind, or says so by one of these words."""
    return isinstance(error, kind) or any(part in str(error) for part in words)
