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

Made by `python scripts/document_criteria.py` from the source; do not edit. `python main.py --help` explains each flag.

**Notation.** `s = x x^T` are dot products; `--arch ..._normalize` gives unit rows, on which they are cosines. `d` are
Euclidean distances. a, p and n are anchor, positive and negative of a triplet. `P_i` are the other images of i's class,
`N_i` those of other classes. `p_k` is the proxy of class k; flags `lr` are learning rates of proxies and the like.

**Weights.** A weight multiplies one pair of images, or one image where a loss has proxies: `w+` for positives, `w-` for
negatives. Weights that are all one give the unweighted loss.

**Empty cases.** An anchor without positives adds nothing; a loss without triplets is zero.

"""
# Author, venue and year of a paper that stands in parentheses.
PAPER = re.compile(r'\((?:"[^"]*", )?([^"()]+?), (?:"[^"]*", )?([^,"()]*\b(?:19|20)\d\d)\b')
# Words of the kind of w_ij, x^2, |x| and --flag, without the punctuation around them.
SYMBOL = re.compile(r"(?<!\S)([(]*)(\S*[_^|*<]\S*?|--\w\S*?)([.,;:)]*)(?!\S)")


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


def arguments(kind: str, name: str, table: dict) -> str:
    """The flags of one class with their defaults, for a cell."""
    flags = table.get(name, {})
    cells = [f"`{key}={default_text(flag.default)}`" for key, flag in flags.items()]
    return f"`--{kind}_{name}_`: {', '.join(cells)}" if cells else ""


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def head(*cells: str) -> list[str]:
    """The first two rows of a table."""
    return [row(*cells), row(*["---"] * len(cells))]


def prose(text: str) -> str:
    """A paragraph, in which symbols are code, so that none reads as markup."""
    pieces = text.split("`")
    pieces[::2] = [SYMBOL.sub(r"\1`\2`\3", piece) for piece in pieces[::2]]
    return textwrap.fill("`".join(pieces), 120, break_on_hyphens=False, break_long_words=False)


def paper(cls: type) -> str:
    """First author, venue and year, for a cell."""
    found = PAPER.search(parts(cls)[0])
    return f"{found[1]}, {found[2]}" if found else ""


def needs(cls: type) -> str:
    """What a criterion compares, and whether a cross-batch memory may serve it."""
    mining = "whole batch"
    if cls.needs_triplets:
        mining = "quadruplets" if cls.needs_quadruplets else "triplets"
    return f"{mining}, `--xbm_size`" if cls.takes_references else mining


def weights_of(cls: type) -> str:
    """The paragraph on what the pair weights scale."""
    if cls.accepts_weight == "none":
        return "Weights: it takes none."
    text = f"Weights: {parts(cls)[2]}"
    if cls.placements == ("term",):
        return text
    return f"{text} Choose by `--pair_weight_on {' or '.join(cls.placements)}`."


def section(name: str, cls: type, *more: str) -> list[str]:
    """Source, formula and notes of one class, then more paragraphs."""
    opening, formula, _, rest = parts(cls)
    if formula:
        opening = opening.rstrip(".,") + ":"
    lines = [f"### {name}", "", prose(opening), ""]
    if formula:
        lines += ["```text", *formula, "```", ""]
    for paragraph in (*rest, *more):
        lines += [prose(paragraph), ""]
    return lines


def page() -> str:
    """The whole file."""
    lines = [HEAD + "## Criteria", ""]
    lines += head("`--loss`", "paper", "needs", "flags and defaults")
    for name, cls in CRITERIA.items():
        flags = arguments("loss", name, parameters.loss_flags())
        lines.append(row(f"[`{name}`](#{name})", paper(cls), needs(cls), flags))
    lines += ["", "With `--xbm_size` the batch may also be compared with a cross-batch memory.", ""]
    lines += ["## Miners", ""]
    lines += head("`--batch_mining`", "paper", "flags and defaults")
    for name, cls in batchminer.MINERS.items():
        flags = arguments("miner", name, parameters.miner_flags())
        lines.append(row(f"`{name}`", paper(cls), flags))
    lines += ["", "## Each criterion", ""]
    for name, cls in CRITERIA.items():
        lines += section(name, cls, weights_of(cls))
    lines += ["## Each miner", ""]
    for name, cls in batchminer.MINERS.items():
        lines += section(name, cls)
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
