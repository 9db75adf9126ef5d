"""What stops a run early: numbers that are none, a signal, a GPU without room; always in one sentence."""
import contextlib
import math
import signal
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from criteria.lm_metric import LossTerms
from utilities.errors import RunError, Stopped

NAMED = 8   # images of a batch that a message names
GRADIENT = "gradient_norm"
NUMBERS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class FiniteGuard:
    """Watches every step for a loss or gradient that is no number, on the device, and tells of the first one when it is
    asked.

    Reading a number of the GPU in every step would make the host wait; so the step, the terms and the images of the
    first bad batch are kept on the device until a step at which the host reads anyway.
    """

    def __init__(self, names: Callable[[int], str]):
        self.names = names                                                         # index of an image -> its file
        self.first: tuple[Tensor, Tensor, Tensor] | None = None

    def watch(self, step: int, terms: LossTerms, index: Tensor) -> None:
        """Look at the terms of a step, its gradient's norm under the name GRADIENT among them, and at the images (B,)
        that they are of; no synchronisation."""
        values = torch.stack([term.detach() for term in terms.values()])           # (T,)
        self.terms, found = list(terms), (torch.where(values.isfinite().all(), -1, step), values, index)
        if self.first is None:
            self.first = found
            return
        seen = self.first[0] >= 0
        self.first = tuple(torch.where(seen, old, new) for old, new in zip(self.first, found))

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


class Interruption:
    """Turns SIGTERM and the first Ctrl-C into a wish that the training loop grants after its step; a second Ctrl-C
    interrupts at once."""

    def __init__(self):
        self.signal: int | None = None

    @contextlib.contextmanager
    def heard(self) -> Iterator["Interruption"]:
        """Listen inside (in the main thread; elsewhere python delivers no signals)."""
        try:
            before = {number: signal.signal(number, self._hear) for number in NUMBERS}
        except ValueError:
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame) -> None:
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def stopped(self, path) -> Stopped:
        """What to raise once the checkpoint is written."""
        return Stopped(f"Stopped by {NUMBERS[self.signal]}; --resume {path} continues from this step.",
                       128 + self.signal)


@contextlib.contextmanager
def room_for(what: str, advice: str) -> Iterator[None]:
    """Memory that does not suffice, of a GPU or of the machine, becomes one sentence with the flags that help."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(f"The GPU has no memory left for {what}: pass {advice}.") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise RunError(f"The machine has no memory left for {what}: pass {advice}.") from error
