"""explorer.html in a real browser: a headless Chromium, driven by playwright."""
import http.server
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.base import ImageList
from tests.evaluation.pages import EVIL, known, pictures, write
from tests.evaluation.sets import clusters

pytestmark = pytest.mark.slow
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LONG = "averylongnameofaclasswithoutanyplacetobreakitbecausesomebodylikesthem" + "x" * 60
CLASSES = ["ant", "bee", "cat", EVIL, LONG, "Fly_of.the-night"]
LOAD, RESPOND = 5.0, 0.5     # seconds that a page of 5,000 images may take, on a machine that has other work


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -r requirements-dev.txt")
    with api.sync_playwright() as play:
        path = next((found for name in NAMES if (found := shutil.which(name))), None)
        own = Path(play.chromium.executable_path).exists()
        if not own and path is None:
            pytest.skip("needs Chromium: apt-get install chromium, or python -m playwright install chromium")
        started = play.chromium.launch(executable_path=None if own else path, args=QUIET)   # profile: new and its own
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens a page from its file; afterwards: nothing was asked for beside it, and the console stayed empty."""
    asked, said, contexts = [], [], []

    def visit(path, size=DESKTOP, **more):
        contexts.append(browser.new_context(viewport=size, **more))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page
    yield visit
    for context in contexts:
        context.close()
    assert not said
    assert not [url for url in asked if not url.startswith(("file://", "data:"))]
    assert len([url for url in asked if url.startswith("file://")]) == len(contexts)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six classes of seven images each, four of them hard to tell apart: the page, its rows and labels, the nearest."""
    folder = tmp_path_factory.mktemp("explorer")
    rows, label = clusters(0, noise=2.0)
    near, _ = write(folder / "explorer.html", rows, pictures(folder / "i", label, CLASSES), mapped=42)
    return folder / "explorer.html", label, near


def shown(page):
    """The neighbours in the inspector: [(number of the image, hit or miss, similarity)]."""
    cards = page.locator("#inspector .card")
    return [(int(card.get_attribute("title")[:3]), card.get_attribute("class").split()[1],
             card.locator(".score").inner_text()) for card in cards.all()]


def wanted(near, label, row):
    return [(j, "hit" if label[j] == label[row] else "miss") for j in near[row].tolist()]


def thumbnail(page, row):
    """The picture of row i is picture i, as all are shown."""
    return page.locator(f'#grid [data-picture="{row}"]')


def heads(page):
    """The names of the classes in the grid, rendered or not."""
    return page.locator("#grid h2 bdi").all_text_contents()


def focused(page):
    return int(page.evaluate("document.activeElement.dataset.picture ?? -1"))


def test_a_click_shows_the_neighbours_of_the_evaluation(opened, made):
    path, label, near = made
    page, data = opened(path), known(path)
    for row in (0, 17, 41):
        thumbnail(page, row).click()
        found = shown(page)
        assert [entry[:2] for entry in found] == wanted(near, label, row)
        assert [score for *_, score in found] == [f"{value:.2f}" for value in data["similarity"].reshape(42, 12)[row]]
        assert page.locator("#picked").inner_text() == data["classes"][int(label[row])][0]
        hits = sum(kind == "hit" for _, kind in wanted(near, label, row))
        assert f"{hits} of the 12 nearest images are hits" in page.locator("#inspector").inner_text()
    misses = {row for row in range(42) if wanted(near, label, row)[0][1] == "miss"}
    marked = page.locator("#grid .miss").evaluate_all("all => all.map(one => Number(one.dataset.picture))")
    assert set(marked) == misses
    card = page.locator("#inspector .card").first                                  # and on to a neighbour
    card.click()
    assert [entry[:2] for entry in shown(page)] == wanted(near, label, near[41, 0])
    page.go_back()
    assert [entry[:2] for entry in shown(page)] == wanted(near, label, 41)


def test_hits_and_misses_differ_not_by_colour_alone(opened, made):
    page = opened(made[0])
    thumbnail(page, int(page.locator("#grid .miss").first.get_attribute("data-picture"))).click()
    for kind, sign, style in (("hit", "✓", "solid"), ("miss", "✕", "dashed")):
        card = page.locator(f"#inspector .card.{kind}").first
        assert card.locator(".mark").inner_text() == sign and f": {kind}, " in card.get_attribute("aria-label")
        assert card.locator(".thumb").evaluate("one => getComputedStyle(one).outlineStyle") == style


def test_classes_begin_with_the_worst_and_lead_to_their_images(opened, made):
    path, label, near = made
    page, hit = opened(path), label[near[:, 0]] == label
    page.click("#tab-classes")
    lines = page.locator("#lines tr")
    shares = [float(line.locator(".recall").inner_text().split()[0]) for line in lines.all()]
    expected = sorted(100 * hit[label == c].double().mean().item() for c in range(6))
    assert shares == pytest.approx(expected, abs=0.051)
    worst = [line[0] for line in known(path)["classes"]].index(lines.first.locator("th").text_content())
    taken = torch.bincount(label[near[:, 0]][(label == worst) & ~hit], minlength=6)
    confused = lines.first.locator(".others button").first
    assert int(re.search(r"(\d+)$", confused.text_content())[1]) == taken.max()
    confused.click()
    assert page.locator("#grid .group").count() == 2 and page.locator("#view-images").is_visible()
    page.locator(".chip").click()
    assert page.locator("#grid .group").count() == 6
    page.select_option("#order", "name")
    assert heads(page)[-3:] == ["bee", "cat", "Fly_of.the-night"]


def test_filters(opened, made):
    path, label, near = made
    page = opened(path)
    page.fill("#search", "AN")
    assert sorted(heads(page)) == ["ant", known(path)["classes"][4][0]]
    page.fill("#search", "no such class")
    assert page.locator("#grid button").count() == 0 and "0 images of 0 classes" in page.locator("#count").inner_text()
    page.fill("#search", "")
    page.check("#misses")
    missed = int((label[near[:, 0]] != label).sum())
    assert page.locator("#grid button:visible").count() == missed
    assert f"{missed} misses" in page.locator("#count").inner_text()


def test_everything_works_from_the_keyboard(opened, made):
    path, label, near = made
    page = opened(path)
    press = page.keyboard.press
    page.locator("#tab-images").focus()
    press("ArrowRight")
    assert page.locator("#view-classes").is_visible()
    press("ArrowLeft")
    for _ in range(4):                                                             # search, order, misses, grid
        press("Tab")
    first = focused(page)
    assert first >= 0
    press("Home")
    order = page.locator("#grid button").evaluate_all("all => all.map(one => Number(one.dataset.picture))")
    assert focused(page) == order[0]
    press("ArrowRight")
    press("ArrowRight")
    assert focused(page) == order[2]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press("ArrowLeft")
    press("ArrowDown")
    below = focused(page)
    boxes = {row: thumbnail(page, row).bounding_box() for row in (order[1], below)}
    assert boxes[below]["y"] > boxes[order[1]]["y"] and abs(boxes[below]["x"] - boxes[order[1]]["x"]) < 200
    press("ArrowUp")
    assert focused(page) == order[1]
    press("End")
    assert focused(page) == order[-1]
    press("Enter")                                                                 # into its neighbours
    row = order[-1]
    assert [entry[:2] for entry in shown(page)] == wanted(near, label, row)
    assert page.evaluate("document.activeElement.closest('#inspector') !== null") and focused(page) == near[row, 0]
    press("ArrowRight")
    assert focused(page) == near[row, 1]
    press("Enter")
    assert [entry[:2] for entry in shown(page)] == wanted(near, label, near[row, 1])
    press("Escape")                                                                # back to where it began
    assert focused(page) == row and page.evaluate("document.activeElement.closest('#grid') !== null")
    press("/")
    page.keyboard.type("bee")
    assert heads(page) == ["bee"]
    press("Escape")
    assert page.locator("#grid .group").count() == 6 and page.input_value("#search") == ""


def place(data, point, box):
    """Where a point of the map lies on the screen."""
    points = data["point"].reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    side = min(box["width"], box["height"]) - 48
    x, y = (points[point] - (low + high) / 2) / (high - low).max() * side
    return float(box["x"] + box["width"] / 2 + x), float(box["y"] + box["height"] / 2 + y)


def test_points_of_the_map_open_their_images(opened, made):
    path, label, near = made
    page, data = opened(path), known(path)
    page.click("#tab-map")
    page.click("#pictures")
    points = data["point"].reshape(-1, 2)
    apart = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(42)
    lonely = int(apart.min(1).argmax())                                            # no other is as far from the rest
    page.mouse.click(*place(data, lonely, page.locator("#drawing").bounding_box()))
    assert [entry[:2] for entry in shown(page)] == wanted(near, label, data["shown"][lonely])
    page.mouse.wheel(0, -600)                                                      # zoom, then drag it away and back
    page.mouse.down()
    page.mouse.move(300, 300, steps=3)
    page.mouse.up()
    page.click("#zoom-off")
    page.locator("#drawing").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    opened_now = int(page.evaluate("location.hash.slice(1)"))
    assert [entry[:2] for entry in shown(page)] == wanted(near, label, opened_now)
    assert page.evaluate("document.activeElement.closest('#inspector') !== null")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "drawing"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(opened, made, scheme):
    path, label, near = made
    page = opened(path, PHONE, color_scheme=scheme, has_touch=True)
    assert not page.locator("#inspector").is_visible()
    for view in ("classes", "map", "images"):
        page.tap(f"#tab-{view}")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], view
    thumbnail(page, 4).tap()                                                       # of the class with the long name
    assert page.locator("#picked").inner_text() == known(path)["classes"][4][0]
    sheet = page.locator("#inspector")
    assert sheet.evaluate("one => one.scrollWidth <= one.clientWidth") and sheet.bounding_box()["width"] == 390
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.locator("#inspector .close").tap()
    assert not sheet.is_visible()
    light = sum(int(part) for part in re.findall(r"\d+", page.evaluate(
        "getComputedStyle(document.body).backgroundColor"))[:3]) > 3 * 128
    assert light == (scheme == "light")


def test_in_a_gallery_apart_neighbours_are_its_images(opened, tmp_path):
    rows, label = clusters(0, noise=2.0)
    images = pictures(tmp_path / "q", label[:24], CLASSES)
    gallery = pictures(tmp_path / "g", label[24:], CLASSES, start=24)
    near, _ = write(tmp_path / "e.html", rows[:24], images, gallery_rows=rows[24:], gallery=gallery)
    page = opened(tmp_path / "e.html")
    assert not page.locator("#tab-map").is_visible()
    thumbnail(page, 7).click()
    expected = [(24 + j, "hit" if label[24 + j] == label[7] else "miss") for j in near[7].tolist()]
    assert [entry[:2] for entry in shown(page)] == expected
    page.locator("#inspector .card").first.click(force=True)                       # leads nowhere
    assert [entry[:2] for entry in shown(page)] == expected


def test_the_page_cannot_ask_any_network(browser, made):
    class Handler(http.server.BaseHTTPRequestHandler):
        met = []

        def do_GET(self):
            self.met.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page()
    page.goto(made[0].as_uri())
    blocked = page.evaluate("""async (address) => {
        const met = [];
        document.addEventListener("securitypolicyviolation", (event) => met.push(event.effectiveDirective));
        const image = new Image();
        image.src = address + "image";
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        document.body.append(script, image);
        await fetch(address + "fetch").catch(() => 0);
        await new Promise((done) => setTimeout(done, 300));
        return [met, window.ran ?? 0];
    }""", f"http://127.0.0.1:{server.server_port}/")
    page.close()
    server.shutdown()
    assert not Handler.met and blocked[1] == 0
    assert {"img-src", "connect-src"} <= set(blocked[0]) and [b for b in blocked[0] if b.startswith("script-src")]


def test_five_thousand_images_load_and_respond_in_time(opened, tmp_path):
    number, random = 5000, np.random.default_rng(0)
    rows, label = clusters(0, classes=250, per_class=20, noise=0.8)
    for i in range(50):                                                            # with the detail of photographs
        coarse = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((120, 120))
        Image.fromarray(np.clip(np.asarray(coarse) + random.normal(0, 8, (120, 120, 3)), 0, 255).astype(np.uint8)).save(
            tmp_path / f"{i}.png")
    images = ImageList([tmp_path / f"{i % 50}.png" for i in range(number)], label.tolist(), [f"class {c}" for c in
                                                                                            range(250)])
    _, words = write(tmp_path / "e.html", rows, images, mapped=2000)
    assert words.startswith("5,000 of 5,000 images can be opened")
    start = time.perf_counter()
    page = opened(tmp_path / "e.html")
    times = {"load": time.perf_counter() - start}
    respond = """async ([selector, kind, value]) => {
        const start = performance.now(), node = document.querySelector(selector);
        if (value !== undefined) node.value = value;
        node.dispatchEvent(new MouseEvent(kind, {bubbles: true, detail: 1}));
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        return (performance.now() - start) / 1000;
    }"""
    for name, what in {"click": ['#grid [data-picture="17"]', "click"], "filter": ["#search", "input", "class 2"],
                       "all again": ["#search", "input", ""], "map": ["#tab-map", "click"],
                       "classes": ["#tab-classes", "click"], "images": ["#tab-images", "click"]}.items():
        times[name] = page.evaluate(respond, what)
    page.locator("#grid button:focus, #grid button[tabindex='0']").focus()
    times["end"] = page.evaluate("""() => { const start = performance.now();
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "End", bubbles: true}));
        return (performance.now() - start) / 1000; }""")
    print(words, {name: round(seconds, 3) for name, seconds in times.items()})
    assert times.pop("load") < LOAD and max(times.values()) < RESPOND, times
