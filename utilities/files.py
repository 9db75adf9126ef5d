"""Files and folders that are written whole or not at all."""
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: str | Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends.

    Where the block fails, `path` is as it was and the temporary file or folder is gone. With `sync`
    the content of a file is on the disk before it takes the place, so that it also survives a loss
    of power. Raises OSError, which callers put into words.
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
        remove(temporary)
        raise


@contextlib.contextmanager
def replacing_text(path: str | Path, *, sync: bool = False) -> Iterator[IO[str]]:
    r"""As `replacing`, but the temporary file is open for writing text in UTF-8.

    A byte of a file's name that is not UTF-8 is escaped: \udcff.
    """
    settings = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with replacing(path, sync=sync) as temporary, open(temporary, "w", **settings) as file:
        yield file


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()
