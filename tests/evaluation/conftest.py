"""Fixtures of the tests of pictures."""
import pytest
from matplotlib.axes import Axes


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
