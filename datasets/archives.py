"""Safe extraction of .tgz and .zip, whole or not at all.

An archive is not trusted: a member may lead outside the folder, be a link or a device, or be far
larger than what the archive holds of it. Only plain files are written, by names that are checked, with the rights
that new files have. One wrong member refuses the whole archive.
"""
import gzip
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from datasets.files import inner_path
from datasets.folders import is_stray
from utilities.bars import new_bar
from utilities.download import check_space, disk_error
from utilities.errors import RunError, in_brief
from utilities.text import counted

# eight times the largest data set
MAX_MEMBERS = 1_000_000
# unpacked / packed; images have 1
MAX_RATIO = 100
# bytes that any archive may unpack
SLACK = 2**20
CHUNK = 2**20  # bytes
TOO_LARGE = f"it unpacks to more than {MAX_RATIO} times its size"
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError,
          RuntimeError, ValueError, LookupError)

# the new path of a member, or None
Place = Callable[[str], str | None]


class Member(NamedTuple):
    """One entry of an archive; `position` is how much of the archive was read before it, in
    bytes.
    """

    name: str
    size: int
    is_file: bool
    position: int
    open: Callable[[], IO[bytes]]


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` when the block ends well, and is deleted otherwise.

    It lies beside the target, so that one renaming moves it, after all of it is on the disk. What
    a killed process left there is removed at the start.
    """
    folder = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        # Windows has no sync
        if hasattr(os, "sync"):
            os.sync()
        folder.rename(target)
    except OSError as error:
        raise disk_error(target, error, "nothing was put there") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def extract(archive: Path, folder: Path, place: Place) -> int:
    """Write the members for which `place` gives a path within `folder`; returns how many.

    Raises RunError, which names the archive, when it is damaged or hostile, when a file of it does
    not fit on the disk or is named twice.
    """
    packed = archive.stat().st_size
    check_space(folder, packed)
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    written = 0
    size = 0
    with (_one_sentence(archive), archive.open("rb") as file,
          new_bar(desc=f"extract {archive.name}", total=packed, unit="B", unit_scale=True) as bar):
        for number, member in enumerate(members(file, folder), start=1):
            if number > MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS} members")
            size += member.size
            _check_size(size, file)
            name = posixpath.normpath(inner_path(member.name))
            wanted = member.is_file and not any(map(is_stray, name.split("/")))
            inner = place(name) if wanted else None
            if inner is not None:
                check_space(folder, member.size)
                with member.open() as source:
                    _write(source, folder / inner, member.size)
                written += 1
            bar.update(member.position - bar.n)
    return written


@contextmanager
def _one_sentence(archive: Path) -> Iterator[None]:
    """Whatever is raised for a damaged or hostile archive, as one sentence."""
    try:
        yield
    except DAMAGE as error:
        raise RunError(f"{archive}: this archive is damaged or not what it should be "
                       f"({in_brief(error)}), nothing of it was used; delete it and fetch it "
                       "again.") from None


def _write(source: IO[bytes], path: Path, size: int) -> None:
    """A new file of exactly `size` bytes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in _chunks(source):
                file.write(chunk)
            written = file.tell()
    except FileExistsError:
        raise ValueError(f"{path.name} is in it twice") from None
    except OSError as error:
        raise disk_error(path, error, "nothing was put in place") from None
    if written != size:
        raise ValueError(f"{path.name} has {counted(written, 'byte')} instead of {size}")


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    """The contents of a member; an OSError of reading becomes a ValueError, since writing raises
    OSError too.
    """
    try:
        while chunk := source.read(CHUNK):
            yield chunk
    except OSError as error:
        raise ValueError(str(error)) from None


# -------------------------------------------------------------------------------------- the formats


class Bounded:
    """A stream that refuses to give more than `limit` bytes: unpacking makes a small archive a
    large one.
    """

    def __init__(self, stream: IO[bytes], limit: int):
        self.stream = stream
        self.left = limit

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(TOO_LARGE)
        return content


def _limit(file):
    """How many bytes an archive may unpack to."""
    return MAX_RATIO * os.fstat(file.fileno()).st_size + SLACK


def _check_size(size: int, file: IO[bytes]) -> None:
    """A ValueError where members of this size together are too large for their archive."""
    if size > _limit(file):
        raise ValueError(TOO_LARGE)


def _tar_members(file: IO[bytes], folder: Path) -> Iterator[Member]:
    """The entries of a gzipped tar in their order; the stream is read once, to its end and
    checksum.
    """
    with gzip.open(file) as unpacked:
        stream = Bounded(unpacked, _limit(file))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                # a sparse file is mostly holes, which the archive does not hold
                if entry.type not in FILES or entry.issparse():
                    raise ValueError(f"{entry.name} is neither a plain file nor a folder")
                # Python 3.11.4 and later
                if hasattr(tarfile, "data_filter"):
                    tarfile.data_filter(entry, folder)
                content = partial(archive.extractfile, entry)
                yield Member(entry.name, entry.size, entry.isreg(), file.tell(), content)
        while stream.read(CHUNK):
            pass


def _zip_members(file: IO[bytes], folder: Path) -> Iterator[Member]:
    """The entries of a zip in the order of its directory."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        # before anything is written
        _check_size(sum(entry.file_size for entry in entries), file)
        position = 0
        for entry in entries:
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"{entry.filename} is neither a file nor a folder")
            position += entry.compress_size
            content = partial(archive.open, entry)
            yield Member(entry.filename, entry.file_size, not entry.is_dir(), position, content)
