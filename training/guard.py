"""What stops a run early: a non-finite loss, a device without memory; always in one sentence."""
import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from criteria.method import LossTerms
from utilities.errors import RunError

NAMED = 8   # images of a batch that a message names
GRADIENT = "gradient_norm"
FULL_GPU = ("CUDA error: out of memory", "ALLOC_FAILED")                           # of the driver, of cuBLAS and cuDNN
FULL_MACHINE = ("can't allocate memory", "not enough memory")


class FiniteGuard:
    """Watches every step for a loss or gradient that is no number, on the device, and tells of the first one when it is
    asked.

    Reading a number of the GPU in every step would make the host wait; so the step, the terms and the images of the
    first bad batch are kept on the device until a step at which the host reads anyway.
    """

    def __init__(self, names: Callable[[int], str]):
        self.names = names  # index of an image -> its file
        self.terms: list[str] = []
        self.first: tuple[Tensor, Tensor, Tensor] | None = None

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
        bad = "gradient" if all(math.isfinite(v) for name, v in numbers.items() if name != GRADIENT) else "loss"
        images = [self.names(i) for i in index[:NAMED].tolist()]
        more = f" and {len(index) - NAMED} more" if len(index) > NAMED else ""
        raise RunError(f"The {bad} is not finite at step {int(step)} ({listing}), of the images {', '.join(images)}"
                       f"{more}. The last checkpoint before it is in the run's folder; a lower --lr, or --grad_clip, "
                       "is the usual cure.")


@contextlib.contextmanager
def room_for(what: str, advice: str) -> Iterator[None]:
    """Memory that does not suffice, of a GPU or of the machine, becomes one sentence with the flags that help."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        where = _without_room(error)
        if where is None:
            raise
        raise RunError(f"The {where} has no memory left for {what}: pass {advice}.") from error


def _without_room(error: Exception) -> str | None:
    """What an error says to be full, 'GPU' or 'machine', or None for any other error."""
    if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in FULL_GPU):
        return "GPU"
    return "machine" if isinstance(error, MemoryError) or any(words in str(error) for words in FULL_MACHINE) else None
