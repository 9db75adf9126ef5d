"""Folders that one process at a time works in."""
import errno
import os
from pathlib import Path

from utilities.errors import RunError

# what file systems say that have no locks
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class Lock:
    """Keeps other processes out of a folder until `release`, or the end of a `with` or the process.

    If another process has the lock: a RunError with the sentence `otherwise`, or with None wait.
    A system without such locks does without. Processes that this one starts do not hold the lock:
    those that load images may outlive it by seconds.
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
            self._close()
            raise RunError(otherwise) from None
        except OSError as error:
            self._close()
            if error.errno not in WITHOUT_LOCKS:
                raise
            return
        # else the lock would end with the last of the processes that share it
        os.register_at_fork(after_in_child=self._close)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._handle is not None:
            import fcntl
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        """Close the descriptor, which in a child leaves the lock to its parent."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error) -> None:
        self.release()
