"""explorer.html: the page around what the explorer knows. Its script and style lie in evaluation/explorer/parts/.

What is fixed is written here, as elements; lists of images and classes are made by the script from one block of data:
names as JSON, numbers as base64 of little-endian arrays. The thumbnails are sheets in the style.
"""
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from evaluation.explorer.atlas import COLUMNS, ROWS, Atlas
from evaluation.explorer.data import Explorer
from evaluation.report.map import COLOURS, LEGEND
from evaluation.report.style import PALETTE
from utilities.cells import NO_SHARES, metric_names, with_interval
from utilities.html import Element, clean, data_block, element, page

ROOM = Path(__file__).parent / "parts"
SCRIPTS = ("data", "thumbnails", "filter", "images", "classes", "map", "map_moves", "inspector", "start")   # as one
VIEWS = ("Images", "Classes", "Map")
ORDERS = {"worst": "Worst R@1 first", "best": "Best R@1 first", "name": "By name"}
LONGEST = 80      # characters of a name


class Heading(NamedTuple):
    """Whose images these are: a title, facts below it, metrics by name, and the page to go back to."""

    title: str
    facts: Sequence[str]
    metrics: dict[str, float]
    back: str | None = None


def explorer_page(known: Explorer, atlas: Atlas, heading: Heading) -> str:
    """The whole page."""
    colours = ":root { " + " ".join(f"--g{i}: {colour};" for i, colour in enumerate(COLOURS)) + " }"
    style = "\n".join([PALETTE, colours, _part("style.css"), _sheets(atlas)])
    body = [_header(known, atlas, heading), _bar(), element("p", id="count", role="status"), _work(known),
            element("p", id="said", role="status", class_="unseen"),
            element("noscript", element("p", "The images are shown by a script in this page; allow it to see them.")),
            data_block("data", content(known, atlas))]
    script = "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    return page(f"{_name(heading.title)} – explorer", style, *body, script=script)


def content(known: Explorer, atlas: Atlas) -> dict:
    """What the script knows."""
    return {"opened": len(known.neighbour), "depth": known.neighbour.shape[1], "gallery": known.gallery is not None,
            "columns": COLUMNS, "rows": ROWS, "side": atlas.side, "unreadable": atlas.unreadable,
            "files": [_name(path.name) for path in known.paths], "label": _packed(known.label, "<i4"),
            "neighbour": _packed(known.neighbour, "<i4"), "similarity": _packed(known.similarity, "<f4"),
            "classes": [[_name(line.name), *line[1:]] for line in known.classes],
            "group": known.group, "groups": [_name(name) for name in known.group_names], "drawn": known.drawn,
            "legend": LEGEND, "colours": len(COLOURS), "shown": _packed(known.shown, "<i4"),
            "point": _packed(known.point, "<f4")}


def _part(name: str) -> str:
    return (ROOM / name).read_text(encoding="utf-8")


def _packed(numbers: Tensor, dtype: str) -> str:
    """A tensor's numbers, row by row, as base64 of that type."""
    return base64.b64encode(np.ascontiguousarray(numbers.numpy(), dtype=dtype).tobytes()).decode()


def _name(text: object) -> str:
    """A name of unknown origin, of bounded length."""
    text = clean(str(text))
    return text if len(text) <= LONGEST else text[:LONGEST - 1] + "…"


def _sheets(atlas: Atlas) -> str:
    """A rule for each sheet of thumbnails."""
    sources = (f"data:image/jpeg;base64,{base64.b64encode(sheet).decode()}" for sheet in atlas.sheets)
    rules = [f'.a{i} {{ background-image: url("{source}"); }}' for i, source in enumerate(sources)]
    return "\n".join([f":root {{ --columns: {COLUMNS}; }}", *rules])


# ------------------------------------------------------------------------------------------------------ fixed parts


def _header(known: Explorer, atlas: Atlas, heading: Heading) -> Element:
    """Title, facts, metrics, and which images these are."""
    back = None if heading.back is None else element("a", "Report of this run", href=heading.back)
    facts = element("p", " · ".join(map(_name, heading.facts)), back, class_="facts")
    numbers = [element("div", element("dt", name), element("dd", with_interval(heading.metrics, name), _unit(name)))
               for name in metric_names(heading.metrics)]
    return element("header", element("div", element("h1", _name(heading.title)), facts),
                   element("dl", *numbers, class_="numbers") if numbers else None,
                   element("p", sample(known, atlas), class_="sample"))


def _unit(metric: str) -> Element | None:
    return None if metric.startswith(NO_SHARES) else element("small", " %")


def sample(known: Explorer, atlas: Atlas) -> str:
    """Which images are shown, and among which their neighbours were searched."""
    opened, besides = len(known.neighbour), len(known.paths) - len(known.neighbour)
    which = (f"All {known.total:,} test images" if opened == known.total else
             f"A sample of {opened:,} of {known.total:,} test images, evenly over the classes,")
    where = ("all test images, the image itself left out" if known.gallery is None else
             f"the {known.gallery:,} images of the gallery")
    more = f" {besides:,} more images are shown as such neighbours." if besides else ""
    damaged = f" {len(atlas.unreadable):,} images could not be read." if atlas.unreadable else ""
    return (f"{which} can be opened. Neighbours are the nearest by cosine similarity among {where}.{more} The numbers "
            f"of a class count all of its test images.{damaged}")


def _bar() -> Element:
    """The three views, and what is shown in them."""
    tabs = [element("button", name, id=f"tab-{name.lower()}", type="button", role="tab", tabindex=-1,
                    aria_controls=f"view-{name.lower()}", aria_selected="false") for name in VIEWS]
    search = element("input", id="search", type="search", placeholder="Filter classes", autocomplete="off",
                     spellcheck="false", aria_label="Filter classes by name")
    order = element("select", *(element("option", words, value=value) for value, words in ORDERS.items()), id="order",
                    aria_label="Order of the classes")
    misses = element("label", element("input", id="misses", type="checkbox"), " Misses only", class_="check")
    return element("div", element("div", *tabs, role="tablist", aria_label="Views", class_="tabs"),
                   element("div", search, order, misses, class_="filters"), class_="bar")


def _work(known: Explorer) -> Element:
    """The views, and beside them the image that is open."""
    contents = ([element("div", id="grid")], _class_table(), _map(len(known.shown)))
    views = [element("section", *children, id=f"view-{name.lower()}", role="tabpanel", hidden="",
                     aria_labelledby=f"tab-{name.lower()}") for name, children in zip(VIEWS, contents)]
    return element("div", element("main", *views), element("aside", id="inspector", aria_labelledby="picked"),
                   class_="work")


def _class_table() -> list[Element]:
    caption = ("Every class of the test images. Taken for: what the nearest images of its queries show instead, and "
               "how many of them.")
    head = [element("th", name, scope="col", **({"class_": "number"} if name == "Images" else {}))
            for name in ("Class", "R@1", "Images", "Taken for")]
    table = element("table", element("caption", caption), element("thead", element("tr", *head)),
                    element("tbody", id="lines"))
    return [table, element("button", id="more", type="button", hidden="")]


def _map(points: int) -> list[Element]:
    words = (f"t-SNE of {points:,} images, which lie where a run's embedding.png has them: near points are alike, far "
             "distances mean nothing. Drag, pinch or turn the wheel to move; arrow keys go from point to point, Enter "
             "opens, + − 0 zoom.")
    canvas = element("canvas", id="drawing", tabindex=0, role="application", aria_label="Map of the test images",
                     aria_describedby="map-words")
    pictures = element("button", "Images", id="pictures", type="button", aria_pressed="false")
    zooms = [element("button", sign, id=f"zoom-{name}", type="button", aria_label=label) for sign, name, label in
             (("+", "in", "Zoom in"), ("−", "out", "Zoom out"), ("Reset", "off", "Reset to the whole map"))]
    tip = element("div", id="tip", hidden="", aria_hidden="true")
    return [element("div", canvas, element("div", pictures, *zooms, class_="zoom"), tip, class_="drawing"),
            element("ul", id="legend"), element("p", words, id="map-words")]
