"""Downloads from a server on this machine that cuts, refuses, changes and lies."""
import errno
import hashlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import ssl
import threading
from collections import namedtuple
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from utilities import download as module
from utilities.digest import sha256
from utilities.download import download
from utilities.errors import RunError, UsageError

CONTENT = bytes(i * i % 251 for i in range(300_000))
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """What it answers is set by attributes: content, tag (its ETag), ranges (False ignores
    Range), cuts (how many bytes each of the next answers sends before it breaks off), status,
    location (of a redirect), page (HTML), length (False: not said; or the text that is said), stall (an event to
    wait for where it breaks off), shift (how many bytes too early a range begins), most (bytes that
    an answer to a Range holds at most), vague (such an answer does not say how long the file is). `asked`
    lists the Range headers.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.tag = '"1"'
        self.ranges = True
        self.cuts = []
        self.status = None
        self.location = None
        self.page = False
        self.length = True
        self.stall = None
        self.shift = 0
        self.most = None
        self.vague = False
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    """Answers as its server says."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        span = self.headers.get("Range")
        server.asked.append(span)
        if server.status:
            return self.send_error(server.status)
        if server.location and self.path == "/file":
            self.send_response(302)
            self.send_header("Location", server.location)
            return self.end_headers()
        if server.page:
            return self.answer(
                200, b"\n<!DOCTYPE html><html>quota exceeded</html>", {"Content-Type": "text/html"}
            )
        fresh = self.headers.get("If-Range") in (None, server.tag)
        if not (span and server.ranges and fresh):
            return self.answer(200, server.content, {})
        start = int(re.fullmatch(r"bytes=(\d+)-", span)[1])
        total = len(server.content)
        if start >= total:
            return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
        start -= server.shift
        body = server.content[start:][:server.most]
        span = f"bytes {start}-{start + len(body) - 1}/{'*' if server.vague else total}"
        return self.answer(206, body, {"Content-Range": span})

    def answer(self, status, body, headers):
        self.send_response(status)
        if self.server.tag:
            headers["ETag"] = self.server.tag
        if self.server.length:
            is_true = self.server.length is True
            headers["Content-Length"] = str(len(body)) if is_true else self.server.length
        for item in headers.items():
            self.send_header(*item)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(body[:cut])
        if cut is not None and self.server.stall:
            self.server.stall.wait(20)


@contextmanager
def serving():
    """A running Server."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    # the parts end at multiples of it
    monkeypatch.setattr(module, "CHUNK", 1000)
    with serving() as running:
        yield running


def killed(work, when):
    """Do `work` in another process and kill that as soon as `when()` holds."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    while not when():
        assert child.is_alive()
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def refused(server, path, *said, md5=MD5, kind=RunError):
    """The one sentence with which a download fails; no file of this name is left."""
    with pytest.raises(kind) as caught:
        download(server.url, path, md5)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".") and not path.exists()
    for word in said:
        assert word in sentence, sentence


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("md5", [MD5, None])
@pytest.mark.parametrize("length", [True, False, "abc", "-5"])
def test_a_whole_file(server, length, md5, tmp_path):
    server.length = length
    download(server.url, tmp_path / "file", md5)
    assert (tmp_path / "file").read_bytes() == CONTENT and left(tmp_path) == ["file"]


@pytest.mark.parametrize("tag, md5", [('"1"', MD5), ('"1"', None), (None, MD5)])
def test_a_cut_connection_is_taken_up_where_it_ended(server, tag, md5, tmp_path):
    server.tag = tag
    server.cuts = [100_000, 50_000]
    download(server.url, tmp_path / "file", md5)
    assert (tmp_path / "file").read_bytes() == CONTENT and left(tmp_path) == ["file"]
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_without_version_and_md5_nothing_can_be_taken_up(server, tmp_path):
    server.tag = None
    server.cuts = [100_000]
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and server.asked == [None, None]


def test_a_server_that_falls_silent(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.cuts = [100_000]
    server.stall = threading.Event()
    download(server.url, tmp_path / "file", MD5)
    server.stall.set()
    assert (tmp_path / "file").read_bytes() == CONTENT and server.asked == [None, "bytes=100000-"]


def test_a_server_that_sends_another_range(server, tmp_path):
    server.cuts = [100_000]
    server.shift = 10
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and server.asked == [
        None,
        "bytes=100000-",
        None,
    ]


@pytest.mark.parametrize("vague", [False, True])
@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("md5", [MD5, None])
def test_a_server_that_sends_less_than_the_rest(server, length, md5, vague, tmp_path):
    server.vague = vague
    server.cuts = [100_000]
    server.most = 90_000
    server.length = length
    if not length:
        # nothing tells that the first answer was cut
        server.cuts = []
        (tmp_path / "file.part").write_bytes(CONTENT[:100_000])
        (tmp_path / "file.part.version").write_text(server.tag)
    download(server.url, tmp_path / "file", md5)
    assert (tmp_path / "file").read_bytes() == CONTENT and left(tmp_path) == ["file"]


def test_a_weak_tag_is_no_version(server, tmp_path):
    server.tag = 'W/"1"'
    server.cuts = [100_000]
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and server.asked == [None, None]


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges = False
    server.cuts = [100_000]
    download(server.url, tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT and server.asked == [None, "bytes=100000-"]


def test_a_server_that_always_cuts_is_given_up_and_continued_later(server, tmp_path):
    server.cuts = [100_000] + [0] * 10
    refused(server, tmp_path / "file", "7 times in a row", "run again "
                                                           "later", str(tmp_path / "file"))
    assert len(server.asked) == 1 + len(module.WAITS)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:100_000]
    server.cuts = []
    download(server.url, tmp_path / "file", MD5)
    assert server.asked[-1] == "bytes=100000-" and left(tmp_path) == ["file"]


def test_attempts_that_bring_something_never_run_out(server, tmp_path):
    server.cuts = [20_000] * 12
    download(server.url, tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT and len(server.asked) == 13


def test_waits_grow(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.status = 503
    refused(server, tmp_path / "file", "answered 503")
    assert waits == list(module.WAITS) == sorted(waits)


def test_a_file_that_changed_between_two_starts_is_fetched_anew(server, tmp_path):
    server.cuts = [100_000] + [0] * 10
    refused(server, tmp_path / "file", md5=None)
    server.cuts = []
    server.content = CONTENT[::-1]
    server.tag = '"2"'
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", ['"1"', None])
def test_killed_after_the_last_byte(server, tag, tmp_path):
    server.tag = tag
    (tmp_path / "file.part").write_bytes(CONTENT)
    if tag:
        (tmp_path / "file.part.version").write_text(tag)
    download(server.url, tmp_path / "file", MD5)
    assert server.asked == [f"bytes={len(CONTENT)}-"] and left(tmp_path) == ["file"]


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT and left(tmp_path) == ["file"]


def test_a_wrong_md5_is_refused_and_the_next_start_fetches_anew(server, tmp_path):
    server.content = CONTENT[::-1]
    refused(server, tmp_path / "file", hashlib.md5(CONTENT[::-1]).hexdigest(), MD5, "deleted")
    assert left(tmp_path) == []
    server.content = CONTENT
    download(server.url, tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_page_instead_of_the_file(server, tmp_path):
    server.page = True
    refused(server, tmp_path / "file", "web page", "quota", str(tmp_path / "file"))
    assert left(tmp_path) == []


@pytest.mark.parametrize("status, reason", [(404, "Not Found"), (403, "Forbidden"), (410, "Gone")])
def test_what_is_not_there_is_not_asked_for_again(server, status, reason, tmp_path):
    server.status = status
    refused(server, tmp_path / "file", str(status), reason, "--url")
    assert len(server.asked) == 1 and left(tmp_path) == []


def test_redirects_within_the_web_are_followed(server, tmp_path):
    server.location = "/elsewhere"
    download(server.url, tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/file", "data:,content"]
)
def test_redirects_out_of_the_web_are_refused(server, location, tmp_path):
    server.location = location
    refused(server, tmp_path / "file", location)
    assert len(server.asked) == 1


def test_the_first_digits_of_a_sha256_sum_are_enough(server, tmp_path):
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    server.cuts = [100_000]
    server.tag = None
    download(server.url, tmp_path / "file", digits, sum_of=sha256)
    assert (tmp_path / "file").read_bytes() == CONTENT and server.asked == [None, "bytes=100000-"]
    with pytest.raises(
        RunError, match=f"the SHA256 sum {digits} instead of 0123abcd and was deleted"
    ):
        download(server.url, tmp_path / "other", "0123abcd", sum_of=sha256)
    assert left(tmp_path) == ["file"]


def test_a_failure_says_address_and_reason_apart(server, tmp_path):
    server.status = 404
    with pytest.raises(module.Unreachable) as caught:
        download(server.url, tmp_path / "file", waits=())
    assert caught.value.url == server.url and caught.value.reason.startswith("the server answered "
                                                                             "404")
    server.url = "http://127.0.0.1:9/file"
    with pytest.raises(module.Unreachable, match="1 times in a row"):
        download(server.url, tmp_path / "file", waits=())


@pytest.mark.parametrize("address", ["http://a..b/file", "http://[::1"])
def test_addresses_that_only_look_like_one(server, address, tmp_path):
    server.location = address
    refused(server, tmp_path / "file", "the address, or a redirect", "cannot be followed")
    server.url = address
    refused(server, tmp_path / "file", "the address, or a redirect", "cannot be followed")


def test_redirects_in_a_circle(server, tmp_path):
    server.location = "/file"
    refused(server, tmp_path / "file", "30 redirects")


@pytest.mark.parametrize("status", [204, 302])
def test_an_answer_without_a_file(server, status, tmp_path):
    """A redirect that names no place is one."""
    server.status = status
    refused(server, tmp_path / "file", f"the server answered {status}")


def test_an_invalid_certificate_is_not_tried_again(server, tmp_path, monkeypatch):
    def get(url, **kwargs):
        try:
            raise ssl.SSLCertVerificationError(1, "certificate verify failed")
        except ssl.SSLError as error:
            raise requests.exceptions.SSLError from error

    monkeypatch.setattr(ssl.SSLCertVerificationError, "verify_message", "it has "
                                                                        "expired", raising=False)
    monkeypatch.setattr(requests, "get", get)
    refused(server, tmp_path / "file", "certificate is not valid (it has expired)")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/file", "host/file", "http://", "http://a b", "http://ä"],
)
def test_other_addresses(url, tmp_path):
    with pytest.raises(UsageError, match="is not an address of the web"):
        download(url, tmp_path / "file")


def test_no_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAITS", (0,))
    server.url = "http://127.0.0.1:9/file"
    refused(server, tmp_path / "file", "2 times in a row", "refused")


class Full:
    """A file on a disk that is full after `room` bytes."""

    def __init__(self, file, room, code=errno.ENOSPC):
        self.file = file
        self.room = room
        self.code = code

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.file.write(content[:self.room])
        if len(content) > self.room:
            self.file.flush()
            raise OSError(self.code, os.strerror(self.code))
        self.room -= len(content)
        return len(content)


def fill_disk(monkeypatch, room, suffix=""):
    """Whatever is opened for writing from now on, under a name of this ending, shares nothing
    and has `room` bytes.
    """
    whole = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *more, **named: (
            Full(whole(path, mode), room)
            if set(mode) & set("wax") and path.name.endswith(suffix)
            else whole(path, mode, *more, **named)
        ),
    )


def test_a_full_disk_is_reported_and_the_part_kept(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fill_disk(patch, 70_000, ".part")
        refused(server, tmp_path / "file", "disk is full", "kept", str(tmp_path / "file.part"))
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:70_000]
    download(server.url, tmp_path / "file", MD5)
    assert server.asked == [None, "bytes=70000-"] and (tmp_path / "file").read_bytes() == CONTENT


def test_space_is_checked_before(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, len(CONTENT) - 1))
    refused(server, tmp_path / "file", "0.00 GB are free", str(tmp_path))
    assert (tmp_path / "file.part").stat().st_size == 0


def test_what_to_do_is_that_of_the_caller(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 1))
    with pytest.raises(RunError, match="free space and run again, or move it\\.$"):
        download(server.url, tmp_path / "file", MD5, elsewhere="move it")


def test_a_write_of_half_a_chunk_is_no_whole_file(server, tmp_path):
    """As where the disk fills within it."""
    server.length = False
    result = multiprocessing.get_context("fork").SimpleQueue()

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (299_500, 299_500))
        try:
            download(server.url, tmp_path / "file")
            result.put("no error")
        except RunError as error:
            result.put(str(error))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert "cannot be written" in result.get() and left(tmp_path) == ["file.part", "file.part.version"]


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file.part").mkdir()
    refused(server, tmp_path / "file", "cannot be written")


def test_killed_in_the_middle_and_continued(server, tmp_path):
    server.cuts = [100_000]
    server.stall = threading.Event()
    part = tmp_path / "file.part"
    killed(
        lambda: download(server.url, tmp_path / "file"),
        lambda: part.exists() and part.stat().st_size,
    )
    server.stall.set()
    assert left(tmp_path) == ["file.part", "file.part.version"]
    arrived = part.stat().st_size
    download(server.url, tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT and left(tmp_path) == ["file"]
    assert server.asked == [None, f"bytes={arrived}-"]
