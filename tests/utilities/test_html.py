"""Pages: their policy names exactly what they hold, and data cannot end its element."""
import base64
import hashlib
import json
import re

import pytest

from utilities.html import data_block, page


def test_style_and_script_are_known_by_their_hashes():
    text = page("t", "p { color: red }", script="let a = '<b>' < 3;")
    for kind, code in (("style", "p { color: red }"), ("script", "let a = '<b>' < 3;")):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text
        assert re.search(rf"<{kind}[^>]*>{re.escape(code)}</{kind}>", text)
    assert "script" not in page("t", "p {}")


@pytest.mark.parametrize("style,script", [("</STYLE>", ""), ("", "'</script>'"), ("", "'<!--'"), ("<!--", "")])
def test_code_that_would_end_its_element_is_refused(style, script):
    with pytest.raises(ValueError, match="may not hold"):
        page("t", style, script=script)


def test_data_stays_in_its_element():
    hostile = ["</script>", "<!--<script>", "\u2028\ud800\x00"]
    text = page("t", "", data_block("d", {"a": hostile}))
    (inside,) = re.findall(r'<script id="d" type="application/json">(.*?)</script>', text)
    assert "<" not in inside and inside.isascii() and json.loads(inside) == {"a": hostile}
    with pytest.raises(ValueError):
        data_block("d", [float("nan")])
