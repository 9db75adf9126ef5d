"""HTML pages made from jinja2 templates: every text is escaped, and no page sends a request.

A page contains its own style and script. Its content security policy names both by their hashes and
allows no other, no request, and no image but those in the page itself.
"""
import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from utilities.cells import metric_names, shown, with_interval
from utilities.flags import value_as_typed
from utilities.metric_names import is_share

ROOM = Path(__file__).parent
PALETTE = (ROOM / "palette.css").read_text(encoding="utf-8")
LONGEST = 80  # characters of a name or a value
# control characters and lone surrogates, which no page may contain
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def render(template: str, *, style: str, script: str = "", **content: object) -> str:
    """The page that a template makes of `content`; `template` is a path below evaluation/.

    ValueError where the style or the script could end its own element.
    """
    for code, end in ((style, "</style"), (script, "</script")):
        if end in code.lower() or "<!--" in code:
            raise ValueError(f"The style or script of a page may not contain {end} or <!--.")
    page = templates().get_template(template)
    return page.render(style=Markup(style), script=Markup(script), **content)


def templates() -> Environment:
    """The templates of all pages: texts are escaped, and a name without a value is an error."""
    environment = Environment(
        loader=FileSystemLoader(ROOM.parent),
        autoescape=True,
        finalize=clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shorten=shorten, fingerprint=fingerprint)
    environment.globals.update(
        is_share=is_share,
        metric_names=metric_names,
        shown=shown,
        with_interval=with_interval,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def clean(value: object) -> str:
    """The text of a value, with U+FFFD in place of every character that no page may contain."""
    text = UNPRINTABLE.sub("\ufffd", str(value))
    return Markup(text) if isinstance(value, Markup) else text


def shorten(value: object) -> str:
    """A value of unknown origin as a text of at most LONGEST characters; a list by its parts."""
    text = clean(value_as_typed(value))
    return text if len(text) <= LONGEST else text[:LONGEST - 1] + "…"


def fingerprint(code: str) -> str:
    """The name of an inline style or script in a content security policy."""
    digest = hashlib.sha256(code.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
