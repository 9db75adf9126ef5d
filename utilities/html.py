"""HTML built as a tree, in which every text and attribute is escaped by construction, and pictures inside of it."""
import base64
import hashlib
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

Element = ET.Element
WIDTHS = (1600, 1200, 900, 600, 400)   # to which a large picture is brought, the first that is small enough (pixels)
QUALITY = 84
NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")   # control characters, lone surrogates


def element(tag: str, *children: Element | str | None, **attributes: object) -> Element:
    """An element with texts and elements in it; None stands for no child. A name such as class_ or stroke_width becomes
    class or stroke-width."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): clean(str(value)) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None and len(made):
            made[-1].tail = (made[-1].tail or "") + clean(child)
        elif child is not None:
            made.text = (made.text or "") + clean(child)
    return made


def clean(text: str) -> str:
    """The text with a mark in the place of what no page may hold: control characters and lone surrogates."""
    return NO_TEXT.sub("\ufffd", text)


def section(title: str, *content: Element | None) -> Element:
    """A part of the page under its heading."""
    return element("section", element("h2", title), *content)


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: bool = True) -> Element:
    """A table whose first column names its rows; it scrolls by itself where it is wider than the page."""
    kind = {"class_": "number"} if numeric else {}
    body = [element("tr", element("th", row[0], scope="row"), *(element("td", cell, **kind) for cell in row[1:]))
            for row in rows]
    columns = [element("th", name, scope="col", **(kind if i else {})) for i, name in enumerate(head)]
    made = element("table", element("caption", caption), element("thead", element("tr", *columns)),
                   element("tbody", *body))
    return element("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)


def picture(path: Path, alt: str, limit: int) -> Element | None:
    """The image in a file as part of the page, at most `limit` bytes of it: larger ones become a smaller JPEG. None
    where there is none that can be read."""
    try:
        with Image.open(path) as image:
            kind, content, size = _encoded(path, image, limit)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return element("img", src=source, alt=alt, width=size[0], height=size[1])


def _encoded(path: Path, image: Image.Image, limit: int) -> tuple[str, bytes, tuple[int, int]]:
    """The kind, the bytes and the size of an image as it is shown."""
    if image.format == "PNG" and path.stat().st_size <= limit:
        image.load()                                                               # damaged ones end here
        return "png", path.read_bytes(), image.size
    backed = Image.new("RGBA", image.size, "white")
    backed.alpha_composite(image.convert("RGBA"))
    for width in WIDTHS:
        small = backed.convert("RGB")
        small.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        if buffer.tell() <= limit:
            break
    return "jpeg", buffer.getvalue(), small.size


def data_block(name: str, content: object) -> Element:
    """Data for the page's script, as JSON in an element of this id. No text in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element("script", text, id=name, type="application/json")


def page(title: str, style: str, *body: Element | None, script: str = "") -> str:
    """A whole page that asks nothing of any network: its own style and script, which are known by their hashes, and
    pictures in it are all that its policy allows."""
    parts = [element("style", style), element("script", script, type="module") if script else None]
    for part, end in zip(parts, ("</style", "</script")):
        if part is not None and (end in part.text.lower() or "<!--" in part.text):
            raise ValueError(f"The text of a page's {part.tag} may not hold {end} or <!--.")
    rules = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "img-src data:",
             *(f"{part.tag}-src '{_fingerprint(part.text)}'" for part in parts if part is not None)]
    head = element("head", element("meta", charset="utf-8"),
                   element("meta", http_equiv="Content-Security-Policy", content="; ".join(rules)),
                   element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                   element("meta", name="color-scheme", content="light dark"),
                   element("title", title), parts[0])
    tree = element("html", head, element("body", *body, parts[1]), lang="en")
    return "<!DOCTYPE html>\n" + ET.tostring(tree, encoding="unicode", method="html") + "\n"


def _fingerprint(text: str) -> str:
    """How a Content-Security-Policy names the text of an inline element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
