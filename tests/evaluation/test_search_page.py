"""The search page: what its server answers, and to whom; and the page in a browser."""
import http.client
import json
import socket
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from evaluation.search import Searcher
from evaluation.search.command import main
from evaluation.search.serve import LARGEST, SIDE, SearchServer
from tests.evaluation.test_explorer_browser import DESKTOP, PHONE, WIDTH
from tests.evaluation.test_search import made, place  # noqa: F401

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def server(place):  # noqa: F811
    """A server of thirty images; the class of one is a hostile name, the path of another too."""
    labels = place / "e" / "labels.csv"
    lines = labels.read_text().splitlines()
    lines[1] = f"{lines[1].partition(',')[0]},90,{EVIL}"
    lines[2] = f"../query.png,{lines[2].partition(',')[2]}"
    lines[3] = f"{place / 'query.png'},{lines[3].partition(',')[2]}"
    lines[4] = f"../last.pt,{lines[4].partition(',')[2]}"
    labels.write_text("\n".join(lines) + "\n")
    server = SearchServer(Searcher(place / "e", device="cpu"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def request(server, method, path, body=None, **headers):
    """(status, headers, content) of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, names)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def post(server, body, query="", **headers):
    status, _, content = request(server, "POST", f"/search{query}", body, **headers)
    return status, json.loads(content)


def test_a_photograph_finds_what_its_file_finds(server, place):  # noqa: F811
    status, said = post(server, (place / "query.png").read_bytes(), "?k=5")
    assert status == 200
    hits = server.searcher.find(Image.open(place / "query.png"), k=5)
    assert [hit["path"] for hit in said["hits"]] == [hit.listed for hit in hits]
    similarity = [hit.similarity for hit in hits]
    np.testing.assert_allclose([hit["similarity"] for hit in said["hits"]], similarity, atol=1e-6)
    lines = server.searcher.gallery.lines
    assert [lines[hit["row"]]["path"] for hit in said["hits"]] == [hit.listed for hit in hits]
    least = (similarity[1] + similarity[2]) / 2
    _, said = post(server, (place / "query.png").read_bytes(), f"?k=5&min_similarity={least}")
    assert len(said["hits"]) == 2
    # more than there are
    _, said = post(server, (place / "query.png").read_bytes(), "?k=1000")
    assert len(said["hits"]) == 30


@pytest.mark.parametrize("body, query, status, words", [
    (b"", "", 400, "the photograph: this image cannot be decoded"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "", 400, "none of JPEG, PNG"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "", 400, "none of JPEG, PNG"),
    (b"x", "?k=0", 400, "0 is not a whole number"),
    (b"x", "?min_similarity=2", 400, "2 is not a number from -1 to 1"),
])
def test_what_is_no_photograph_is_one_sentence(server, body, query, status, words):
    found, said = post(server, body, query)
    assert found == status and words in said["error"]


def test_uploads_are_bounded(server):
    head = "POST /search HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}\r\n"
    for line, status in [(f"Content-Length: {LARGEST + 1}\r\n", b"413"), ("", b"411"),
                         ("Content-Length: -1\r\n", b"411"), ("Content-Length: 1e3\r\n", b"411")]:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as client:
            client.sendall(head.format(server.server_port, line).encode())
            # refused before a byte of the photograph is sent
            assert client.recv(100).split()[1] == status


def test_images_are_given_by_row_alone(server):
    lines = server.searcher.gallery.lines
    status, headers, content = request(server, "GET", "/image/10")
    assert status == 200 and headers["Content-Type"] == "image/jpeg"
    image = Image.open(BytesIO(content))
    own = Image.open(server.searcher.gallery.image_of(10))
    assert image.format == "JPEG" and max(image.size) <= SIDE and image.size == own.size
    for name in ("1", "2", "3"):
        assert ".." in lines[int(name)]["path"] or lines[int(name)]["path"].startswith("/")
        assert request(server, "GET", f"/image/{name}")[0] == 404
    for name in ("30", "-1", "999999999", "1e1", "0/../10", "..%2fquery.png", "%31", "1%0a"):
        assert request(server, "GET", f"/image/{name}")[0] == 404
    for path in ("/images/a/0.png", "/../query.png", "/embeddings.npy"):
        assert request(server, "GET", path)[0] == 404


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"},
    {"Host": "127.0.0.1"},
    {"Host": "127.0.0.1:1"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
])
def test_other_pages_get_no_answer(server, headers, place):  # noqa: F811
    photograph = (place / "query.png").read_bytes()
    for method, path, body in (("GET", "/", None), ("GET", "/image/10", None),
                               ("POST", "/search", photograph)):
        status, _, content = request(server, method, path, body, **headers)
        assert status == 403 and list(json.loads(content)) == ["error"]
    own = f"localhost:{server.server_port}"
    assert post(server, photograph, Host=own, Origin=f"http://{own}")[0] == 200


def test_only_this_machine_can_connect(server):
    assert server.server_address[0] == "127.0.0.1"
    headers = request(server, "GET", "/")[1]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("more, code, words", [
    (["--serve", "0", "--json", "x.json"], 2, "--json is for queries"),
    (["q.png", "--serve"], 2, "q.png: --serve takes queries from the page"),
])
def test_flags_that_the_page_does_not_need_are_refused(place, capsys, more, code, words):  # noqa: F811
    assert main([str(place / "e"), *more, "--device", "cpu"]) == code
    assert words in capsys.readouterr().err


def test_a_port_in_use_is_one_sentence(server, place, capsys):  # noqa: F811
    argv = [str(place / "e"), "--serve", str(server.server_port), "--device", "cpu"]
    assert main(argv) == 1
    assert "name another port" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("size, scheme", [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_page_in_a_browser(browser, server, place, size, scheme, tmp_path):  # noqa: F811
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    page.wait_for_selector("html[data-ready]", state="attached")
    page.fill("#k", "30")
    page.set_input_files("#file", place / "query.png")
    page.wait_for_selector("#hits li")
    hits = server.searcher.find(Image.open(place / "query.png"), k=30)
    assert page.locator("#hits strong").all_inner_texts() == [hit.class_name for hit in hits]
    assert EVIL in page.locator("#hits strong").all_inner_texts()
    assert page.evaluate("document.getElementById('query').naturalWidth") == 16
    page.wait_for_function("[...document.querySelectorAll('#hits img')].every(one => one.complete)")
    widths = page.evaluate("[...document.querySelectorAll('#hits img')].map(one => one.naturalWidth)")
    # three rows name what is no image of the folder
    assert sum(width > 0 for width in widths) == 27
    assert page.evaluate(WIDTH) == size["width"]
    page.screenshot(path=tmp_path / f"search-{scheme}.png", full_page=True)
    page.set_input_files("#file", place / "last.pt")
    page.wait_for_selector("#status.error")
    assert "cannot be decoded" in page.inner_text("#status")
    context.close()
    # what the server refuses is noted by the browser itself
    assert all("Failed to load resource" in message for message in messages)


def test_an_address_that_is_none_is_not_found(server):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as client:
        client.sendall(f"GET http://[::1 HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert client.recv(100).split()[1] == b"404"


def test_a_browser_that_goes_away_is_no_error(server, capsys):
    for error, words in ((BrokenPipeError(), ""), (KeyError("x"), "KeyError")):
        try:
            raise error
        except type(error):
            server.handle_error(None, ("127.0.0.1", 1))
        assert words in capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
