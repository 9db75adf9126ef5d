"""One file from the web: continued where it was cut, verified, and under its name only when it is whole."""
import errno
import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from utilities import digest
from utilities.errors import RunError, UsageError

TIMEOUT = 30                                                                       # seconds without a byte
WAITS = (1, 2, 4, 8, 16, 32)                                                       # seconds before each further attempt
CHUNK = 2**18                                                                      # bytes
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)                                    # answers that may soon change
WEB = re.compile(r"https?://[!-~]+", re.IGNORECASE)
HTML = (b"<!doctype html", b"<html")


class Cut(Exception):
    """The connection failed in a way that another attempt may mend."""


class Unreachable(RunError):
    """A file that could not be fetched: from where, why, and what to do then."""

    def __init__(self, url: str, reason: str, advice: str):
        super().__init__(f"{url}: {reason}; {advice}.")
        self.url, self.reason = url, reason


class WebOnly(HTTPRedirectHandler):
    """Redirects stay on the web; urllib would follow one to ftp too."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not WEB.fullmatch(newurl):
            raise Unreachable(req.full_url, f"it leads to {newurl}, which is not on the web",
                              "give another address by --url")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Part:
    """What has arrived of a file, in <file>.part, and which version of it the server said it was, beside it."""

    def __init__(self, path: Path):
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
        """Forget what has arrived; what follows is of this version."""
        self.remove()
        self.path.touch()
        if version:
            self._version.write_text(version)

    def remove(self) -> None:
        """Delete both files."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def download(url: str, path: Path, md5: str | None = None, *, sha256: str | None = None,
             waits: Sequence[float] | None = None) -> None:
    """Fetch `url` to `path`, which appears only when it is whole and of this MD5 sum, or of a SHA-256 sum that begins
    with these digits.

    Until then the bytes are in <path>.part. A cut connection is taken up again after `waits` seconds (WAITS), and a
    second call goes on where the first one ended, both by a Range request: If-Range makes sure that the server still
    has the same file; where it names no version only the sum can tell, and without one the file is fetched anew. A file
    of another sum is deleted.
    """
    if not WEB.fullmatch(url):
        raise UsageError(f"--url {url}: this is not an address of the web; give one that begins with http:// or "
                         "https:// and has neither spaces nor letters beyond ASCII.")
    part = Part(path)
    try:
        _fetch_all(url, part, f"or fetch it with a browser and save it as {path}", resumable=bool(md5 or sha256),
                   waits=WAITS if waits is None else waits)
        kind, wanted, sum_of = ("MD5", md5, md5_of) if md5 else ("SHA-256", sha256, digest.sha256)
        if wanted and (found := sum_of(part.path)[:len(wanted)]) != wanted:
            part.remove()
            raise Unreachable(url, f"the file has the {kind} sum {found} instead of {wanted} and was deleted",
                              "run again to fetch it anew, or from another address by --url")
        os.replace(part.path, path)
        part.remove()
    except OSError as error:   # those of the network have become others by now
        raise disk_error(part.path, error, "what has arrived is kept, and the next start goes on from there") from None


def md5_of(path: Path) -> str:
    """The MD5 sum of a file: what the data sets' authors and mirrors publish."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def disk_error(path: Path, error: OSError, kept: str) -> RunError:
    """The sentence for a disk that is full or does not let itself be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{path}: the disk is full ({kept}); free space and run again.")
    return RunError(f"{path} cannot be written ({error.strerror or error}; {kept}); allow it, or choose another folder "
                    "by --source_path.")


def check_space(folder: Path, needed: int) -> None:
    """A RunError when the disk of a folder has less than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(f"{folder}: {needed / 1e9:.2f} GB are needed, but {free / 1e9:.2f} GB are free; free space and "
                       "run again, or choose another folder by --source_path.")


# ------------------------------------------------------------------------------------------------------ connections


def _fetch_all(url: str, part: Part, otherwise: str, resumable: bool, waits: Sequence[float]) -> None:
    """Connect until all is there. Only attempts in a row that brought nothing new count as failed."""
    furthest, failed = part.size, 0
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
    headers = {"User-Agent": "Mozilla/5.0 (compatible; LM-Metric)"}
    if part.size and (part.version or resumable):
        headers |= {"Range": f"bytes={part.size}-"} | ({"If-Range": part.version} if part.version else {})
    with _answer(Request(url, headers=headers), otherwise) as response:
        if response.status == 416:                                                 # nothing lies behind what we have
            if not re.fullmatch(rf"bytes \*/{part.size}", response.headers.get("Content-Range", "")):
                part.remove()
                raise Cut("the file has changed")
            return
        chunk = _read(response)
        if response.status != 206:
            if chunk.lstrip()[:14].lower().startswith(HTML):
                raise Unreachable(url, "the server sent a web page instead of the file, such as one about a quota or a "
                                  "login", f"try again tomorrow, give another address by --url, {otherwise}")
            part.restart(_version(response.headers))
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {part.size}-"):
            part.remove()
            raise Cut("the server sent another part than it was asked for")
        _append(chunk, response, part)


def _answer(request: Request, otherwise: str):
    """The server's response; a Cut where another attempt may help, a RunError where none will."""
    url = request.full_url
    try:
        return build_opener(WebOnly).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:
            return error                                                           # which is a response as well
        error.close()
        if error.code in TEMPORARY:
            raise Cut(f"the server answered {error.code}") from None
        reason = " ".join(error.reason.split())
        raise Unreachable(url, f"the server answered {error.code} ({reason})",
                          f"give another address by --url, {otherwise}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise Unreachable(url, f"the server's certificate is not valid ({reason.verify_message})",
                              f"set the clock and the certificates of this machine right, {otherwise}") from None
        raise Cut(_said(reason)) from None


def _append(chunk: bytes, response, part: Part) -> None:
    """Write the body, of which `chunk` is the beginning, behind what is there, and to the disk."""
    length = response.headers.get("Content-Length")
    total = part.size + int(length) if length else None
    check_space(part.path.parent, int(length or 0))
    with (part.path.open("ab") as file,
          tqdm(desc=part.path.stem, total=total, initial=part.size, unit="B", unit_scale=True, leave=False) as bar):
        while chunk:
            file.write(chunk)
            bar.update(len(chunk))
            chunk = _read(response)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and part.size < total:
        raise Cut(f"the connection ended after {part.size} of {total} bytes")


def _read(response) -> bytes:
    """The next bytes, as soon as there are some; a Cut where the connection fails."""
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise Cut(_said(error)) from None


def _said(error: Exception | str) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _version(headers) -> str | None:
    """What If-Range may name: a strong ETag, or else the date of the last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
