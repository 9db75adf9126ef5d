"""A page to search in the browser: `python -m evaluation.search EMBEDDINGS --serve [PORT]`.

Only this machine can connect, and only pages of this server get an answer: the Host and Origin of a
request are checked, since other web pages can send requests to this machine, too. A photograph
is decoded as any image is, and never stored. Images of the set are asked for by their row, and sent
small and encoded anew.
"""
import json
import re
import sys
import threading
from argparse import ArgumentTypeError
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from datasets.files import within
from datasets.formats import Content
from evaluation.pages import PALETTE, clean, render
from evaluation.report.thumbnails import load_image
from evaluation.search.nearest import Hit
from evaluation.search.searcher import Searcher
from utilities.errors import RunError, UsageError, reason
from utilities.ranges import cosine, positive_int
from utilities.text import printable

PARTS = Path(__file__).parent / "web"
ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
HTTP_PORT = 80
# bytes of a photograph
LARGEST = 32 * 2**20
# pixels of an image's longer side
SIDE = 360
QUALITY = 88
# seconds to wait for a request's next bytes
PATIENCE = 30
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(searcher: Searcher, port: int, k: int, min_similarity: float | None) -> None:
    """Answer until Ctrl-C. k, min_similarity: what the page begins with. port: 0 is any free one."""
    with SearchServer(searcher, port, k, min_similarity) as server:
        print(f"The search page is http://{ADDRESS}:{server.server_port}/ (Ctrl-C ends it).",
              flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


class SearchServer(ThreadingHTTPServer):
    """The page, and what answers it. The network computes for one request at a time."""

    daemon_threads = True

    def __init__(self, searcher: Searcher, port: int = 0, k: int = 12,
                 min_similarity: float | None = None):
        self.searcher = searcher
        # else the first request would wait for it
        searcher.open()
        self.turn = threading.Lock()
        least = "" if min_similarity is None else min_similarity
        script = (PARTS / "page.js").read_text(encoding="utf-8")
        style = PALETTE + (PARTS / "page.css").read_text(encoding="utf-8")
        self.page = render("search/web/page.html.j2", style=style, script=script,
                           images=len(searcher), most=len(searcher), k=min(k, len(searcher)),
                           least=least)
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise RunError(f"--serve {port}: nothing can be served there ({reason(error)}); name "
                           "another port, or 0 for any that is free.") from None

    def handle_error(self, request, client_address) -> None:
        """What a request raised; a browser that has gone away is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def hosts(self) -> list[str]:
        """What the header Host may be."""
        hosts = [f"{name}:{self.server_port}" for name in NAMES]
        return hosts + list(NAMES) if self.server_port == HTTP_PORT else hosts

    def hits(self, photograph: bytes, k: int, min_similarity: float | None) -> list[Hit]:
        """The images nearest to a photograph."""
        with self.turn:
            image = Content(photograph, "the photograph")
            return self.searcher.find(image, min(k, len(self.searcher)), min_similarity)

    def thumbnail(self, row: int) -> bytes:
        """The image of a row as a small JPEG; LookupError where there is none to show."""
        gallery = self.searcher.gallery
        # labels.csv is a file from anywhere
        path = within(gallery.root or Path(), gallery.lines[row]["path"])
        if path is None:
            raise LookupError(row)
        with self.turn:
            image = load_image(path, SIDE)
        file = BytesIO()
        image.save(file, "JPEG", quality=QUALITY)
        return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /image/ROW an image, POST /search?k=K the hits of its body as JSON."""

    timeout = PATIENCE
    server_version = "evaluation.search"
    sys_version = ""

    def do_GET(self) -> None:
        """The page, or an image of the set."""
        if not self._is_own():
            return
        path = self._address().path
        row = re.fullmatch(r"/image/([0-9]{1,9})", path)
        if path == "/":
            self._send(200, "text/html; charset=utf-8", self.server.page.encode())
        elif row:
            self._send_image(int(row[1]))
        else:
            self._refuse(404, "There is nothing at this address.")

    def do_POST(self) -> None:
        """The hits of a photograph."""
        if not self._is_own():
            return
        address = self._address()
        length = self.headers.get("Content-Length", "")
        if address.path != "/search":
            self._refuse(404, "There is nothing at this address.")
        elif not re.fullmatch(r"[0-9]{1,18}", length):
            self._refuse(411, "The request does not say how long the photograph is.")
        elif int(length) > LARGEST:
            self._refuse(413, f"The photograph is too large: send at most {LARGEST >> 20} MB.")
        else:
            photograph = self.rfile.read(int(length))
            self._answer(photograph, dict(parse_qsl(address.query)))

    def _address(self) -> SplitResult:
        """What is asked for; empty where it is no address."""
        try:
            return urlsplit(self.path)
        except ValueError:
            return urlsplit("")

    def _answer(self, photograph: bytes, asked: dict[str, str]) -> None:
        try:
            k = positive_int(asked.get("k", "12"))
            least = asked.get("min_similarity")
            hits = self.server.hits(photograph, k, least and cosine(least))
        # of a range's number: what is wrong with it
        except (UsageError, RunError, ArgumentTypeError) as error:
            self._refuse(400, printable(error))
        else:
            self._send_json(200, {"hits": [as_json(hit) for hit in hits]})

    def _send_image(self, row: int) -> None:
        try:
            content = self.server.thumbnail(row)
        except (LookupError, RunError):
            self._refuse(404, "This image cannot be shown.")
        else:
            self._send(200, "image/jpeg", content)

    def _is_own(self) -> bool:
        """Whether the request is of this server's page, or of no page; others are refused."""
        host = self.headers.get("Host")
        origin = self.headers.get("Origin", f"http://{host}")
        is_own = host in self.server.hosts() and origin == f"http://{host}"
        if not is_own:
            self._refuse(403, "Only the page of this server is answered.")
        return is_own

    def _refuse(self, status: int, sentence: str) -> None:
        self.close_connection = True
        self._send_json(status, {"error": sentence})

    def _send_json(self, status: int, content: dict) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        """Nothing: the terminal stays quiet."""


def as_json(hit: Hit) -> dict:
    """A hit as the page's script takes it, which writes it as text and never as HTML."""
    return {
        "row": hit.row,
        "class": clean(hit.class_name),
        "path": clean(hit.listed),
        "similarity": hit.similarity,
    }
