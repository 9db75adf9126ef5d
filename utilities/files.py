"""Files and folders that are written whole or not at all, and JSON files of any origin."""
import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from utilities.errors import UsageError


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of any origin; empty if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def section(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of this name in such a file; empty if there is none."""
    part = content.get(name)
    return part if isinstance(part, dict) else {}


@contextlib.contextmanager
def replacing(path: str | Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends.

    Where the block fails, `path` is as it was and the temporary file or folder is gone. With `sync`
    the content of a file is on the disk before it takes the place, so that it also survives a loss
    of power. A link stays, and what it leads to is replaced; a device or a pipe is written itself.
    Raises OSError, which callers put into words.
    """
    if is_stream(path):
        yield Path(path)
        return
    path = Path(os.path.realpath(path))
    if path.is_dir() and not path.name:
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
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


def is_stream(path: str | Path) -> bool:
    """Whether a path is a device, a pipe, or what a process has open, such as /dev/stdout."""
    path = Path(os.path.abspath(path))
    is_place = path.is_file() or path.is_dir()
    return path.exists() and (not is_place or path.parts[:2] in (("/", "dev"), ("/", "proc")))


def refuse_existing(flag: str, path: str | Path) -> None:
    """A UsageError where a file that a flag names is there already."""
    if Path(path).exists() and not is_stream(path):
        raise UsageError(f"{flag} {path} is there already and is never overwritten; name another "
                         "file.")


def refuse_input(flag: str, path: str | Path, inputs: Iterable[str | Path]) -> None:
    """A UsageError where a file to be written is one of those that are read."""
    if os.path.realpath(path) in map(os.path.realpath, inputs):
        raise UsageError(f"{flag} {path} is a file that this command reads; name another one.")


def refuse_place(flag: str, path: str | Path) -> None:
    """A UsageError where no file can be written, before the work whose result it will hold."""
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{flag} {path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {path.parent}; make it, or name another.")


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()
