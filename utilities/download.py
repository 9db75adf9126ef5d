"""One file from the web: continued where it was cut, checked by its sum, and under its name only
when it is whole.
"""
import errno
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from utilities import digest
from utilities.bars import new_bar
from utilities.errors import RunError, UsageError, in_brief, reason
from utilities.text import counted

TIMEOUT = 30  # seconds without a byte
WAITS = (1, 2, 4, 8, 16, 32)  # seconds before each further attempt
CHUNK = 2**13  # bytes
# answers that may soon change
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
WEB = re.compile(r"https?://[!-~]+", re.IGNORECASE)
# how an answer says which bytes of how many it holds
RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)")
ELSEWHERE = "choose another folder by --source_path"
HEADERS = {"User-Agent": "Mozilla/5.0 (compatible; LM-Metric)", "Accept-Encoding": "identity"}


class Cut(Exception):
    """The connection failed, and another attempt may succeed."""


class Unreachable(RunError):
    """A file that could not be fetched: from where, why, and what to do then."""

    def __init__(self, url: str, reason: str, advice: str):
        super().__init__(f"{url}: {reason}; {advice}.")
        self.url = url
        self.reason = reason


class Part:
    """What has arrived of a file, in <file>.part; the version that the server named is in
    <file>.part.version. elsewhere: what to do where the disk has no place.
    """

    def __init__(self, path: Path, elsewhere: str):
        self.elsewhere = elsewhere
        self.path = path.with_name(f"{path.name}.part")
        self._version = path.with_name(f"{path.name}.part.version")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str | None:
        """The server's ETag or date of the file, None where it gave none."""
        return self._version.read_text() if self._version.exists() else None

    def restart(self, version: str | None) -> None:
        """Delete what has arrived; what follows is of this version."""
        self.remove()
        self.path.touch()
        if version:
            self._version.write_text(version)

    def remove(self) -> None:
        """Delete both files."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def download(url: str, path: Path, wanted: str | None = None, *,
             sum_of: Callable[[Path], str] = digest.md5,
             waits: Sequence[float] | None = None, elsewhere: str = ELSEWHERE) -> None:
    """Fetch `url` to `path`, which appears only when it is whole and has the right sum.

    The bytes go to <path>.part. After a cut connection, and in a second call, a Range request
    continues it. If-Range makes sure that the server still has the same file. Where the server
    names no version only the sum can tell, and without a sum the file is fetched anew.

    wanted: the sum that the file must have by `sum_of`, or its first digits; a file of another sum
    is deleted. waits: seconds before each further attempt (WAITS). elsewhere: what to do where the
    disk has no place.
    Raises UsageError (not an address of the web), Unreachable, RunError (the disk).
    """
    if not WEB.fullmatch(url):
        raise UsageError(f"--url {url}: this is not an address of the web; give one that begins "
                         "with http:// or https:// and has neither spaces nor letters beyond "
                         "ASCII.")
    part = Part(path, elsewhere)
    otherwise = f"or fetch it with a browser and save it as {path}"
    try:
        _fetch_all(url, part, otherwise, bool(wanted), WAITS if waits is None else waits)
        found = sum_of(part.path)[:len(wanted)] if wanted else None
        if found != wanted:
            part.remove()
            raise Unreachable(url, f"the file has the {sum_of.__name__.upper()} sum {found} instead of "
                                   f"{wanted} and was deleted",
                              "run again to fetch it anew, or from another address by --url")
        os.replace(part.path, path)
        part.remove()
    except OSError as error:  # those of the network are other errors by now
        kept = "what has arrived is kept, and the next start continues from there"
        raise disk_error(part.path, error, kept, elsewhere) from None


def disk_error(path: Path, error: OSError, kept: str, elsewhere: str = ELSEWHERE) -> RunError:
    """The sentence for a disk that is full or cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{path}: the disk is full ({kept}); free space and run again.")
    return RunError(f"{path} cannot be written ({reason(error)}; {kept}); allow it, or {elsewhere}.")


def check_space(folder: Path, needed: int, elsewhere: str = ELSEWHERE) -> None:
    """A RunError when the disk of a folder has less than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(f"{folder}: {needed / 1e9:.2f} GB are needed, but {free / 1e9:.2f} GB are "
                       f"free; free space and run again, or {elsewhere}.")


# -------------------------------------------------------------------------------------- connections


def _fetch_all(url: str, part: Part, otherwise: str, resumable: bool,
               waits: Sequence[float]) -> None:
    """Connect until all is there. Only attempts in a row that brought nothing new count as
    failed.
    """
    furthest = part.size
    failed = 0
    while True:
        try:
            return _fetch(url, part, otherwise, resumable)
        except Cut as cut:
            failed = 1 if part.size > furthest else failed + 1
            furthest = max(furthest, part.size)
            if failed > len(waits):
                raise Unreachable(url, f"the download failed {failed} times in a row ({cut})",
                                  f"run again later to continue, {otherwise}") from None
            tqdm.write(f"{url}: {cut}; trying again in {waits[failed - 1]} s")
            time.sleep(waits[failed - 1])


def _fetch(url: str, part: Part, otherwise: str, resumable: bool) -> None:
    """One connection; returns when the part is the whole file."""
    headers = dict(HEADERS)
    if part.size and (part.version or resumable):
        headers["Range"] = f"bytes={part.size}-"
        # requests leaves out None
        headers["If-Range"] = part.version
    try:
        with requests.get(url, headers=headers, timeout=TIMEOUT, stream=True) as response:
            _receive(response, part, otherwise)
    # a ValueError: an address that libraries below requests take for none
    except (requests.RequestException, ValueError) as error:
        raise _failure(url, error, otherwise) from None


def _receive(response: requests.Response, part: Part, otherwise: str) -> None:
    """Bring the part to the end of the file, by the answer to one request."""
    status = response.status_code
    content_range = response.headers.get("Content-Range", "")
    # the file ends where the range begins
    if status == 416:
        if content_range == f"bytes */{part.size}":
            return
        part.remove()
        raise Cut("the file has changed")
    if status in TEMPORARY:
        raise Cut(f"the server answered {status}")
    if status not in (200, 206):
        raise Unreachable(response.url, f"the server answered {status} ({response.reason})",
                          f"give another address by --url, {otherwise}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Unreachable(response.url, "the server sent a web page instead of the file, such as "
                                        "one about a quota or a login",
                          f"try again tomorrow, give another address by --url, {otherwise}")
    total = 0
    if status == 200:
        part.restart(_version(response.headers))
    else:
        sent = RANGE.fullmatch(content_range)
        if not sent or int(sent[1]) != part.size:
            part.remove()
            raise Cut("the server sent another part than requested")
        # of the whole file: a server may answer with less than the rest of it
        total = 0 if sent[2] == "*" else int(sent[2])
    named = response.headers.get("Content-Length", "")
    if not total and named.isdecimal():
        total = part.size + int(named)
    _append(response, part, total)
    if status == 206 and sent[2] == "*":
        raise Cut("the server did not say how long the file is")


def _append(response: requests.Response, part: Part, total: int) -> None:
    """Write the body behind what is there, and to the disk; total: bytes of the file, 0 if unknown."""
    check_space(part.path.parent, total - part.size, part.elsewhere)
    with (part.path.open("ab") as file,
          new_bar(desc=part.path.stem, total=total or None, initial=part.size, unit="B",
                  unit_scale=True) as bar):
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if part.size < total:
        raise Cut(f"the connection ended after {part.size} of {counted(total, 'byte')}")


def _failure(url: str, error: requests.RequestException | ValueError, otherwise: str) -> Exception:
    """What to raise for an error of requests: a Cut where another attempt may help."""
    if isinstance(error, requests.TooManyRedirects | ValueError):
        return Unreachable(url, "the address, or a redirect of the server, cannot be followed "
                                f"({in_brief(error)})",
                           f"give another address by --url, {otherwise}")
    # the first error says it best
    while error.__context__:
        error = error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(url, f"the server's certificate is not valid ({error.verify_message})",
                           f"correct the clock and the certificates of this machine, {otherwise}")
    return Cut(reason(error))


def _version(headers) -> str | None:
    """What If-Range may name: a strong ETag, or else the date of the last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
