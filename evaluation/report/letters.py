"""Which fonts draw the names in pictures, and what becomes of letters that none of them has."""
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

# the font that matplotlib brings, then those of systems that have the letters of East and South Asia
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Nirmala UI",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Unifont",
)


@cache
def families() -> list[str]:
    """The fonts among these that are installed; each letter is drawn by the first that has it."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in installed]


@cache
def _letters() -> frozenset[int]:
    """The code points that these fonts draw."""
    known = set()
    for name in families():
        known.update(FT2Font(font_manager.findfont(name)).get_charmap())
    return frozenset(known)


def drawable(text: str) -> str:
    r"""The text, with \u732b and the like in place of letters that no font has."""
    return "".join(_drawn(letter) for letter in text)


def _drawn(letter: str) -> str:
    if letter.isprintable() and ord(letter) in _letters():
        return letter
    return letter.encode("unicode_escape").decode("ascii")
