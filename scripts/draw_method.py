"""Draw docs/method.svg, the figure of the method, in the colours of the pages.

    python scripts/draw_method.py
"""
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "docs" / "method.svg"
WIDTH = 1000
HEIGHT = 372
# centres of the columns and of the rows
IMAGES, BACKBONE, EMBEDDING, MEMORY, SUM, LOSS = 72, 222, 382, 557, 732, 912
POLICY_ROW, CONTEXT_ROW, TEST_ROW = 70, 165, 285
BOX = (124, 58)

STYLE = """
.box { fill: var(--panel); stroke: var(--rule); stroke-width: 1.5 }
.kept { fill: none; stroke: var(--c2); stroke-width: 1.5; stroke-dasharray: 6 4 }
.page { fill: var(--page) }
.arrow { fill: none; stroke: var(--quiet); stroke-width: 1.5; marker-end: url(#head) }
.learning { stroke: var(--c1) }
.head { fill: var(--quiet) }
text { font: 14px system-ui, sans-serif; fill: var(--ink); text-anchor: middle }
.name { font-weight: 600 }
.note { font-size: 12.5px; fill: var(--quiet) }
.test { fill: var(--c2) }
.reward { fill: var(--c1) }
"""


def text(x: float, y: float, words: str, kind: str) -> str:
    """One line, centred at x."""
    return f'<text class="{kind}" x="{x}" y="{y}">{words}</text>'


def box(x: float, y: float, name: str, note: str, height: float = BOX[1]) -> str:
    """A box around (x, y) with its name and a note."""
    width = BOX[0]
    return (
        f'<rect class="box" x="{x - width / 2}" y="{y - height / 2}"'
        f' width="{width}" height="{height}" rx="7"/>'
        + text(x, y - 4, name, "name")
        + text(x, y + 15, note, "note")
    )


def arrow(*points: tuple[float, float], kind: str = "") -> str:
    """A line through the points, with its head at the last."""
    path = " L ".join(f"{x} {y}" for x, y in points)
    return f'<path class="arrow {kind}" d="M {path}"/>'


def right_of(x: float) -> float:
    """The right side of the column's boxes."""
    return x + BOX[0] / 2 + 2


def left_of(x: float) -> float:
    """The left side, with room for the head of an arrow."""
    return x - BOX[0] / 2 - 5


def along(row: float, *columns: float) -> str:
    """Arrows from each column's box to the next one's."""
    return "".join(
        arrow((right_of(start), row), (left_of(end), row))
        for start, end in zip(columns, columns[1:])
    )


def boxes() -> str:
    """What computes, and what it gives."""
    middle = (POLICY_ROW + TEST_ROW) / 2
    return "".join([
        box(IMAGES, TEST_ROW, "images", "of a batch"),
        box(BACKBONE, TEST_ROW, "backbone", "features h"),
        box(EMBEDDING, TEST_ROW, "projection", "embedding e"),
        box(MEMORY, TEST_ROW, "memory", "flow: ĉ from e"),
        box(SUM, TEST_ROW, "v", "unit(e + ĉ)"),
        box(EMBEDDING, CONTEXT_ROW, "relation", "GRU: context c"),
        box(SUM, CONTEXT_ROW, "u", "unit(e + c)"),
        box(MEMORY, POLICY_ROW, "policy", "how sharp w is"),
        box(LOSS, middle, "loss", "L(u; w) + L(v; w)", TEST_ROW - POLICY_ROW + BOX[1]),
    ])


def arrows() -> str:
    """Who reads whom; in colour, what the policy and the memory learn from."""
    above = TEST_ROW - BOX[1] / 2
    fork = (right_of(BACKBONE) + left_of(EMBEDDING)) / 2
    joint = (right_of(MEMORY) + left_of(SUM)) / 2
    return "".join([
        along(TEST_ROW, IMAGES, BACKBONE, EMBEDDING, MEMORY, SUM, LOSS),
        along(CONTEXT_ROW, EMBEDDING, SUM, LOSS),
        along(POLICY_ROW, MEMORY, LOSS),
        arrow((fork, TEST_ROW), (fork, CONTEXT_ROW), (left_of(EMBEDDING), CONTEXT_ROW)),
        arrow(
            (EMBEDDING, CONTEXT_ROW - BOX[1] / 2), (EMBEDDING, POLICY_ROW),
            (left_of(MEMORY), POLICY_ROW),
        ),
        arrow((MEMORY, CONTEXT_ROW), (MEMORY, above - 5), kind="learning"),
        arrow(
            (LOSS, POLICY_ROW - BOX[1] / 2), (LOSS, 22), (MEMORY, 22),
            (MEMORY, POLICY_ROW - BOX[1] / 2 - 5), kind="learning",
        ),
        arrow((EMBEDDING + 20, above), (EMBEDDING + 20, 225), (joint, 225), (joint, CONTEXT_ROW)),
    ])


def words() -> str:
    """What stands beside the arrows."""
    return "".join([
        text((MEMORY + LOSS) / 2, 16, "reward: average precision after a virtual step", "note reward"),
        text(SUM, POLICY_ROW - 8, "weight w of every pair", "note"),
        text(MEMORY + 42, CONTEXT_ROW + 34, "learns c", "note reward"),
        text((BACKBONE + SUM) / 2, HEIGHT - 12, "used at test time: one image, no batch", "note test"),
    ])


def figure() -> str:
    """The whole picture."""
    colours = (ROOT / "evaluation" / "pages" / "palette.css").read_text()
    kept = (
        f'<rect class="kept" x="{BACKBONE - 74}" y="{TEST_ROW - 42}"'
        f' width="{SUM - BACKBONE + 148}" height="84" rx="10"/>'
    )
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path class="head" d="M 0 0 L 8 4 L 0 8 z"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        "<title>A training step of LM-Metric</title>\n"
        f"<style>\n{colours}{STYLE}</style>\n<defs>{head}</defs>\n"
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="10"/>\n'
        f"{kept}\n{boxes()}\n{arrows()}\n{words()}\n</svg>\n"
    )


if __name__ == "__main__":
    FIGURE.write_text(figure(), encoding="utf-8")
