"""Signals that end a long command after the step at hand, with nothing lost."""
import contextlib
import signal
from collections.abc import Iterator

import torch

from utilities import distributed
from utilities.errors import Stopped

NUMBERS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
# Windows has none.
SIGHUP = getattr(signal, "SIGHUP", None)
if SIGHUP:
    NUMBERS[SIGHUP] = "SIGHUP (the terminal was closed)"


class Interruption:
    """Turns SIGTERM, SIGHUP and the first Ctrl-C into a request to stop after the step at hand.

    A second Ctrl-C interrupts at once. Under nohup SIGHUP stays without effect.
    """

    def __init__(self):
        self.signal: int | None = None

    @contextlib.contextmanager
    def catch_signals(self) -> Iterator["Interruption"]:
        """Catch signals inside, if this is the main thread; in others Python delivers none."""
        before = {}
        with contextlib.suppress(ValueError):
            for number in NUMBERS:
                before[number] = signal.signal(number, self._receive)
            if before.get(SIGHUP) == signal.SIG_IGN:
                signal.signal(SIGHUP, signal.SIG_IGN)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def requested(self, device: torch.device) -> bool:
        """Whether any process has received a signal; it then counts as received by all."""
        number = distributed.largest(self.signal or 0, device)
        # Without the condition a signal that came meanwhile would be lost.
        if number:
            self.signal = number
        return number > 0

    def _receive(self, number: int, frame) -> None:
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def stopped(self, advice: str) -> Stopped:
        """What to raise once everything is written; advice: how to continue."""
        return Stopped(f"Stopped by {NUMBERS[self.signal]}; {advice}.", 128 + self.signal)
