"""Standard output and standard error of a command: what they show, and what happens when they fail.

Text is shown, never obeyed: of a file's name, an escape sequence arrives as its letters. A reader
that closes its end, as `head` or a terminal does, does not stop the command.
"""
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from utilities.text import printable

# of a pipe, and of a terminal
CLOSED = (errno.EPIPE, errno.EIO)


class OutputError(Exception):
    """A stream that cannot be written, though its reader is there."""


class Shown:
    """A text stream that shows control characters as text and is flushed with every line.

    raw: the stream itself, for progress bars, which move the cursor. When its reader has closed it,
    what is written goes nowhere; any other failure raises OutputError where there is a `name`.
    """

    def __init__(self, raw: TextIO, name: str | None):
        self.raw = raw
        self.name = name
        # such as ± where the terminal's encoding has none
        if hasattr(raw, "reconfigure"):
            raw.reconfigure(errors="backslashreplace")

    def __getattr__(self, attribute: str):
        return getattr(self.raw, attribute)

    def write(self, text: str) -> int:
        """Write the text, each of its lines as `printable` gives it."""
        self._try(self.raw.write, "\n".join(map(printable, text.split("\n"))))
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Hand on what is written."""
        self._try(self.raw.flush)

    def _try(self, function, *arguments) -> None:
        try:
            function(*arguments)
        except OSError as error:
            discard(self.raw)
            if self.name and error.errno not in CLOSED:
                raise OutputError(f"{self.name} cannot be written ({error.strerror}); send it "
                                  "elsewhere. What was written to files is intact.") from None


def discard(stream: TextIO) -> None:
    """Let a stream lead nowhere, with what it still holds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Standard output and error as Shown inside."""
    open_missing()
    with (contextlib.redirect_stdout(Shown(sys.stdout, "The output (stdout)")),
          contextlib.redirect_stderr(Shown(sys.stderr, None))):
        yield


def open_missing() -> None:
    """Open what the caller has closed, else the next file would take its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
