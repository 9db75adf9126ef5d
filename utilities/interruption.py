"""Signals that end a long command after the step at hand, with nothing lost."""
import contextlib
import signal
from collections.abc import Iterator

import torch

from utilities import distributed
from utilities.errors import Stopped

NUMBERS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class Interruption:
    """Turns SIGTERM and the first Ctrl-C into a wish that the training loop grants after its step; a second Ctrl-C
    interrupts at once."""

    def __init__(self):
        self.signal: int | None = None

    @contextlib.contextmanager
    def catch_signals(self) -> Iterator["Interruption"]:
        """Catch signals inside (in the main thread; elsewhere Python delivers none)."""
        try:
            before = {number: signal.signal(number, self._receive) for number in NUMBERS}
        except ValueError:
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def requested(self, device: torch.device) -> bool:
        """Whether any of several processes has received a signal; it then counts as received by all."""
        number = distributed.largest(self.signal or 0, device)
        if number:                                                                 # else one may just have come
            self.signal = number
        return number > 0

    def _receive(self, number: int, frame) -> None:
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def stopped(self, path) -> Stopped:
        """What to raise once the checkpoint is written."""
        return Stopped(f"Stopped by {NUMBERS[self.signal]}; --resume {path} continues from this step.",
                       128 + self.signal)
