"""Fixtures of the tests of pictures and pages."""
import shutil
from pathlib import Path

import pytest
from matplotlib.axes import Axes

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def texts(monkeypatch):
    """The texts that are drawn on axes."""
    drawn = []
    write = Axes.text

    def remember(self, x, y, text, *args, **kwargs):
        drawn.append(text)
        return write(self, x, y, text, *args, **kwargs)
    monkeypatch.setattr(Axes, "text", remember)
    return drawn


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; without one, the test is skipped."""
    reason = "needs playwright: pip install -r requirements-dev.txt"
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    with api.sync_playwright() as play:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        if Path(play.chromium.executable_path).exists():
            path = None  # its own
        elif path is None:
            pytest.skip("needs Chromium: apt-get install chromium, or playwright install chromium")
        chromium = play.chromium.launch(executable_path=path, args=QUIET)  # with a new profile
        yield chromium
        chromium.close()
