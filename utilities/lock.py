"""Folders that one process at a time works in."""
import os
from pathlib import Path

from utilities.errors import RunError


def lock(folder: Path, otherwise: str) -> int | None:
    """Keep other processes out of a folder until the returned handle is closed or the process ends, however it does; a
    RunError with the sentence `otherwise` where another is there. A system without such locks does without: None."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(otherwise) from None
    return handle
