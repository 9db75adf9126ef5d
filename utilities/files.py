"""Files that are written whole or not at all."""
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends.

    Where the block fails, `path` is as it was and the temporary file is gone. With `sync` the content is on the disk
    before it takes the place, so that it also survives a loss of power. Raises OSError, which callers put into words.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.part")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
