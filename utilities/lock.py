"""Folders that one process at a time works in."""
import os
from pathlib import Path

from utilities.errors import RunError


class Lock:
    """Keeps other processes out of a folder until `release`, the end of a `with`, or the end of the process, however it
    comes. Where another is there already: a RunError with the sentence `otherwise`, or with None wait for it. A system
    without such locks does without.
    """

    def __init__(self, folder: Path, otherwise: str | None = None):
        self._handle: int | None = None
        try:
            import fcntl
        except ImportError:
            return
        self._handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if otherwise else 0))
        except BlockingIOError:
            self.release()
            raise RunError(otherwise) from None

    def release(self) -> None:
        """Let others in again; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error) -> None:
        self.release()
