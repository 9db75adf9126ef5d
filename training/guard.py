"""What stops a run early: numbers that are none, a signal, a GPU without room; always in one sentence."""
import contextlib
import signal
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from criteria.lm_metric import LossTerms
from utilities.errors import RunError, Stopped

NAMED = 8   # images of a batch that a message names
NUMBERS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class FiniteGuard:
    """Watches every step for a loss that is no number, on the device, and tells of the first one when it is asked.

    Reading a number of the GPU in every step would make the host wait; so the step, the terms and the images of the
    first bad batch are kept on the device until a step at which the host reads anyway.
    """

    def __init__(self, names: Callable[[int], str]):
        self.names = names                                                         # index of an image -> its file
        self.first: tuple[Tensor, Tensor, Tensor] | None = None

    def watch(self, step: int, terms: LossTerms, index: Tensor) -> None:
        """Look at the terms of a step, and at the images (B,) that they are of; no synchronisation."""
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
        listing = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.terms, values.tolist()))
        images = [self.names(i) for i in index[:NAMED].tolist()]
        more = f" and {len(index) - NAMED} more" if len(index) > NAMED else ""
        raise RunError(f"The loss is not finite at step {int(step)} ({listing}), of the images {', '.join(images)}"
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
def room_for_the_batch() -> Iterator[None]:
    """A GPU without memory becomes one sentence with the flags that help."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise RunError("The GPU has no memory left for this step: pass --accumulate N (so many images at once, with "
                       "the same gradient), --amp bf16, a smaller --image_size or a smaller --bs.") from error
