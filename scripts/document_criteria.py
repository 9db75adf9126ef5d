"""Write docs/criteria.md from the docstrings, signatures and flags of the criteria and miners.

    python scripts/document_criteria.py [--check]

A class docstring begins with one sentence that names the paper. Then comes the formula (indented
lines). A paragraph that begins with "Weights:" says what the pair weights do. --check writes
nothing and fails where the file is out of date.
"""
import inspect
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import batchminer  # noqa: E402
import criteria  # noqa: E402
import parameters  # noqa: E402
from criteria.pml import PML  # noqa: E402

# PML is chosen as pml.<ClassName>.
CRITERIA = criteria.CRITERIA | {"pml": PML}
PAGE = ROOT / "docs" / "criteria.md"
HEAD = """# Criteria and miners

Made by `python scripts/document_criteria.py` from the source; do not edit. `s = x x^T` are dot products, which are
cosines on the unit rows that `--arch ..._normalize` gives, `d` Euclidean distances; a, p, n are the anchor, positive
and negative of a triplet; P_i and N_i are the images of i's class (without i) and those of other classes. A weight is
a multiplier of one image pair, or of one image where a criterion has proxies; one everywhere is the unweighted loss.
An anchor without positives adds nothing, and no triplets at all give a loss of zero.

"""


def paragraphs(cls: type) -> list[str]:
    """The paragraphs of the class docstring, an indented block being one of them."""
    return re.split(r"\n\s*\n", inspect.getdoc(cls))


def parts(cls: type) -> tuple[str, list[str], str, list[str]]:
    """Opening sentence, lines of the formula, paragraph on the weights, and the other paragraphs."""
    opening, *others = paragraphs(cls)
    formula = []
    weights = ""
    rest = []
    for paragraph in others:
        text = " ".join(paragraph.split())
        if paragraph.startswith("    "):
            formula += textwrap.dedent(paragraph).splitlines()
        elif text.startswith("Weights:"):
            weights = text.removeprefix("Weights:").strip()
        else:
            rest.append(text)
    return " ".join(opening.split()).rstrip(":"), formula, weights, rest


def default_text(default) -> str:
    """A default as it is typed on the command line."""
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return "off" if default is False else str(default)


def arguments(name: str, table: dict) -> str:
    """The arguments of one class with their defaults, for a cell."""
    flags = table.get(name, {})
    cells = [f"`{key} {default_text(flag.default)}`" for key, flag in flags.items()]
    return "<br>".join(cells)


def notes(kind: str, name: str, cls: type, table: dict) -> list[str]:
    """The section of one class: what its docstring adds to the row, and its flags."""
    lines = [f"### {name}", ""]
    for paragraph in parts(cls)[3]:
        lines += [textwrap.fill(escape(paragraph), 120), ""]
    flags = table.get(name, {})
    for argument, flag in flags.items():
        name_of_flag = f"--{kind}_{name}_{argument}"
        lines.append(f"* `{name_of_flag}` ({default_text(flag.default)}): {flag.help}")
    return lines + [""] if flags else lines


def code(lines: list[str]) -> str:
    """Lines of code in a table's cell; spaces at the front are kept."""
    written = [line.replace("|", r"\|").replace(" ", "\u00a0") for line in lines if line.strip()]
    return "<br>".join(f"`{line}`" for line in written)


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def escape(text: str) -> str:
    """Prose in a table's cell: what would read as markup is shown as it is."""
    return re.sub(r"([|*_<])", r"\\\1", text)


def needs(cls: type) -> str:
    """Which miners a criterion takes, and whether a cross-batch memory may serve it."""
    mining = "whole batch"
    if cls.needs_triplets:
        mining = "quadruplets" if cls.needs_quadruplets else "triplets"
    return f"{mining}, `--xbm_size`" if cls.takes_references else mining


def weights_of(cls: type) -> str:
    """What the pair weights scale, for a cell."""
    if cls.accepts_weight == "none":
        return "takes none"
    scope = {"pair": "per pair or anchor", "anchor": "per image"}[cls.accepts_weight]
    text = f"{scope}: {escape(parts(cls)[2])}"
    if cls.placements == ("term",):
        return text
    return f"{text} `--pair_weight_on {' or '.join(cls.placements)}`."


def head(*cells: str) -> list[str]:
    """The first two rows of a table."""
    return [row(*cells), row(*["---"] * len(cells))]


def row_of(title: str, cls: type, *more: str) -> str:
    """The row of one class: its title, paper and formula, then more cells."""
    opening, formula, _, _ = parts(cls)
    return row(title, escape(opening), code(formula), *more)


def page() -> str:
    """The whole file."""
    lines = [HEAD, "## Criteria", ""]
    lines += head("`--loss`", "paper", "formula", "what the weights scale", "compares", "parameters")
    for name, cls in CRITERIA.items():
        link = f"[`{name}`](#{name})"
        flags = arguments(name, parameters.loss_flags())
        lines.append(row_of(link, cls, weights_of(cls), needs(cls), flags))
    lines += ["", "## Miners", ""]
    lines += head("`--batch_mining`", "rule", "formula", "parameters")
    for name, cls in batchminer.MINERS.items():
        lines.append(row_of(f"`{name}`", cls, arguments(name, parameters.miner_flags())))
    lines += ["", "## Notes on the criteria", ""]
    for name, cls in CRITERIA.items():
        lines += notes("loss", name, cls, parameters.loss_flags())
    lines += ["## Notes on the miners", ""]
    for name, cls in batchminer.MINERS.items():
        lines += notes("miner", name, cls, parameters.miner_flags())
    return "\n".join(lines).rstrip() + "\n"


def main(argv: list[str]) -> int:
    """Write the page, or with --check say whether it is up to date."""
    text = page()
    if "--check" in argv:
        if PAGE.exists() and PAGE.read_text() == text:
            print("docs/criteria.md is up to date.")
            return 0
        print("docs/criteria.md is out of date: run python scripts/document_criteria.py")
        return 1
    PAGE.write_text(text)
    print(f"Wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
