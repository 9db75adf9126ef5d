"""docs/method.svg: made by its script, well-formed, with every box inside the picture."""
from xml.etree import ElementTree

import pytest

from scripts import draw_method

SVG = "{http://www.w3.org/2000/svg}"


def test_the_figure_is_the_scripts():
    assert draw_method.FIGURE.read_text(encoding="utf-8") == draw_method.figure()


@pytest.mark.parametrize("kind", ["rect", "text"])
def test_everything_lies_inside_the_picture(kind):
    root = ElementTree.fromstring(draw_method.figure())
    _, _, width, height = map(float, root.get("viewBox").split())
    shapes = list(root.iter(f"{SVG}{kind}"))
    assert len(shapes) > 9
    for shape in shapes:
        left, top = float(shape.get("x", 0)), float(shape.get("y", 0))
        assert left >= 0 and left + float(shape.get("width", 0)) <= width
        assert top >= 0 and top + float(shape.get("height", 0)) <= height
