"""Pages: texts are escaped, the policy names what a page contains, data stays in its element."""
import base64
import hashlib
import json
import re

import pytest

from evaluation import pages
from evaluation.pages import LONGEST, clean, render, shorten

HOSTILE = ["</script>", "<!--<script>", "\u2028\ud800\x00", "\"'&"]


def from_text(source, **content):
    return pages.templates().from_string(source).render(**content)


def test_style_and_script_are_known_by_their_hashes():
    codes = {"style": "p { color: red }", "script": "let a = '<b>' < 3;"}
    text = render("pages/page.html.j2", **codes)
    for kind, code in codes.items():
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text
        assert re.search(rf"<{kind}[^>]*>{re.escape(code)}</{kind}>", text)
    assert "script" not in render("pages/page.html.j2", style="p {}")


@pytest.mark.parametrize("style,script", [
    ("</STYLE>", ""),
    ("", "'</script>'"),
    ("", "'<!--'"),
    ("<!--", ""),
])
def test_code_that_would_end_its_element_is_refused(style, script):
    with pytest.raises(ValueError, match="may not contain"):
        render("pages/page.html.j2", style=style, script=script)


def test_texts_and_attributes_are_escaped():
    source = '<p title="{{ a }}">{{ a }}{{ [a, a] | join(" · ") }}</p>'
    text = from_text(source, a="<b>\"'&\x00\x1b")
    escaped = "&lt;b&gt;&#34;&#39;&amp;\ufffd\ufffd"
    assert text == f'<p title="{escaped}">{escaped}{escaped} · {escaped}</p>'


def test_data_stays_in_its_element():
    text = from_text('<script id="d">{{ data | tojson }}</script>', data={"a": HOSTILE})
    inside = re.fullmatch('<script id="d">(.*)</script>', text)[1]
    assert "<" not in inside and inside.isascii()
    assert json.loads(inside) == {"a": HOSTILE}
    with pytest.raises(ValueError):
        from_text("{{ data | tojson }}", data=[float("nan")])


def test_a_forgotten_value_is_an_error():
    with pytest.raises(Exception, match="'absent' is undefined"):
        from_text("{{ absent }}")


def test_texts_have_bounds():
    assert clean("a\x00b\ud800\n") == "a\ufffdb\ufffd\n"
    assert shorten(["a", 1]) == "a 1" and shorten("x" * LONGEST) == "x" * LONGEST
    assert shorten("x" * 10**6) == "x" * (LONGEST - 1) + "…"
