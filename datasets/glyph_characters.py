"""Which characters the fonts of matplotlib hold, and which of them make classes that can be told
apart.
"""
import unicodedata
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utilities.errors import UsageError

# the code points of each super-class, first and last
SCRIPTS = {
    "LATIN": [(0x41, 0x5A), (0x61, 0x7A), (0x250, 0x2AF)],
    "GREEK": [(0x391, 0x3A9), (0x3B1, 0x3C9), (0x3D8, 0x3EF)],
    "CYRILLIC": [(0x402, 0x40B), (0x410, 0x44F), (0x460, 0x481), (0x48A, 0x4FF)],
    "ARMENIAN": [(0x531, 0x556), (0x561, 0x587)],
    "GEORGIAN": [(0x10A0, 0x10C5), (0x10D0, 0x10FA)],
    "HEBREW": [(0x5D0, 0x5EA)],
    "ARABIC": [(0x621, 0x64A), (0x671, 0x6D3)],
    "CANADIAN": [(0x1401, 0x166C)],
    "TIFINAGH": [(0x2D30, 0x2D65)],
    "OGHAM": [(0x1681, 0x169A)],
    "NKO": [(0x7CA, 0x7EA)],
    "LAO": [(0xE81, 0xEAE), (0xED0, 0xED9)],
    "OLD_ITALIC": [(0x10300, 0x1031E)],
    "OPERATOR": [(0x2200, 0x22FF)],
    "ARROW": [(0x2190, 0x21FF)],
    "APL": [(0x2336, 0x237A)],
    "SYMBOL": [(0x2600, 0x26FF)],
}
# correlation of two reference drawings from which on they count as the same shape
ALIKE = 0.75
# side of a reference drawing, pixels
REFERENCE = 24
# other code points are mapped otherwise there
_LATIN_FONTS = ("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10")
_FONT_PREFIXES = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", *_LATIN_FONTS)


class Character(NamedTuple):
    """A class: its code point, its super-class, a name for folders and pictures, the fonts that
    draw it.
    """

    code: int
    script: str
    name: str
    fonts: list[Path]


def font_files() -> list[Path]:
    """The text fonts that matplotlib ships, sorted; neither the display cuts nor the fonts of
    symbol parts.
    """
    try:
        import matplotlib
    except ImportError:
        raise UsageError("--dataset glyphs draws with the fonts of matplotlib, which is not "
                         "installed; run pip install matplotlib, or choose another "
                         "--dataset.") from None
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [file for file in sorted(folder.glob("*.ttf"))
             if file.stem.startswith(_FONT_PREFIXES) and "Display" not in file.stem]
    if not files:
        raise UsageError(f"--dataset glyphs needs the fonts of matplotlib, but {folder} holds "
                         "none; reinstall matplotlib, or choose another --dataset.")
    return files


def candidates(fonts: list[Path], seed: int) -> list[Character]:
    """All characters of SCRIPTS that a font has, the scripts taking turns, in random order
    within a script.
    """
    from fontTools.ttLib import TTFont
    held = {font: set(TTFont(font, lazy=True).getBestCmap()) for font in fonts}
    generator = np.random.default_rng([seed, len(SCRIPTS)])
    by_script = []
    for script, ranges in SCRIPTS.items():
        codes = [code for first, last in ranges for code in range(first, last + 1) if _usable(code)]
        shuffled = generator.permutation(codes).tolist()
        characters = [_character(code, script, held) for code in shuffled]
        by_script.append([character for character in characters if character.fonts])
    turns = zip_longest(*by_script)
    return [character for turn in turns for character in turn if character]


def _usable(code):
    """A letter or a symbol, not one composed of another and an accent."""
    return unicodedata.category(chr(code))[0] in "LSN" and not unicodedata.decomposition(chr(code))


def _character(code: int, script: str, held: dict[Path, set[int]]) -> Character:
    """The character with the fonts that have it."""
    fonts = [font for font, codes in held.items() if code in codes]
    if code >= 0x7F:
        fonts = [font for font in fonts if not font.stem.startswith(_LATIN_FONTS)]
    return Character(code, script, class_name(code, script), fonts)


def class_name(code: int, script: str) -> str:
    """An ASCII name that reads well: GREEK.omega_small for GREEK SMALL LETTER OMEGA."""
    words = unicodedata.name(chr(code)).replace("-", "_").split()
    case = [word for word in words if word in ("SMALL", "CAPITAL")]
    filler = {"LETTER", "SYLLABICS", "FUNCTIONAL", "SYMBOL", *case, *script.split("_")}
    own = [word for word in words if word not in filler]
    return f"{script}.{'_'.join(own + case).lower()}"


def distinct(pool: list[Character], count: int) -> list[Character]:
    """The first `count` characters of the pool that do not look like an earlier one in any font
    that draws both.
    """
    fonts = sorted({font for one in pool for font in one.fonts})
    opened = [open_font(font, 48) for font in fonts]
    chosen: dict[str, Character] = {}
    shapes = np.zeros((min(count, len(pool)), len(fonts), REFERENCE**2), np.float32)
    for one in pool:
        if len(chosen) == count:
            break
        shape = np.zeros(shapes.shape[1:], np.float32)  # (fonts, 576)
        for font in one.fonts:
            row = fonts.index(font)
            shape[row] = reference(chr(one.code), opened[row])
        alike = np.einsum("cfp,fp->cf", shapes[:len(chosen)], shape)  # (chosen, fonts)
        if shape.any() and one.name not in chosen and alike.max(initial=0) < ALIKE:
            shapes[len(chosen)] = shape
            chosen[one.name] = one
    return list(chosen.values())


@lru_cache(maxsize=256)
def open_font(font: Path, pixels: int) -> ImageFont.FreeTypeFont:
    """The font at this size; its simple layout, for the other one is not on every machine."""
    return ImageFont.truetype(str(font), pixels, layout_engine=ImageFont.Layout.BASIC)


def reference(text: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """The character alone, cropped to its ink, stretched to a square, blurred, standardised,
    (576,).

    The dot product of two such drawings is their correlation. Zeros where there is no ink.
    """
    ink = drawn(text, font)
    if ink is None:
        return np.zeros(REFERENCE**2, np.float32)
    small = np.asarray(ink.resize((REFERENCE, REFERENCE), Image.Resampling.BOX), np.float32)
    padded = np.pad(small, 1, mode="edge")
    shifted = [padded[y:y + REFERENCE, x:x + REFERENCE] for y in range(3) for x in range(3)]
    small = sum(shifted).ravel()
    small = small - small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def drawn(text: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """The character white on black, cropped to its ink; None where it has none."""
    left, top, right, bottom = font.getbbox(text)
    if right <= left or bottom <= top:
        return None
    ink = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(ink).text((2 - left, 2 - top), text, fill=255, font=font)
    box = ink.getbbox()
    return ink.crop(box) if box else None
