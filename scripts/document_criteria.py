"""Write docs/criteria.md from the docstrings, signatures and flags of the criteria and miners.

    python scripts/document_criteria.py [--check]

A class docstring begins with one sentence that names the paper. Then comes the formula (indented
lines). A paragraph that begins with "Weights:" says what the pair weights do; the page leaves it
out where it is "as in the formula". --check writes nothing and fails where the page is out of
date.
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

Made by `python scripts/document_criteria.py`; do not edit. A flag is `--loss_<name>_<flag>` or
`--miner_<name>_<flag>`, such as `--loss_triplet_margin 0.2`; `python main.py --help` explains each. The source names
the titles of the papers.

**Notation.** `s = x x^T` are dot products; `--arch ..._normalize` gives unit rows, on which they are cosines. `d` are
Euclidean distances. a, p and n are anchor, positive and negative of a triplet; `mean_t` runs over all triplets, zeros
included. `P_i` are the other images of i's class, `N_i` those of other classes. y is the class of an image, `p_k` the
proxy of class k. Flags `lr` are learning rates of learned parameters (proxies).

    c_ik = x_i . p_k / |p_k|
    cross_entropy(z) = mean_i w+_i [-z_iy + log(exp(z_iy) + w-_i sum_{k!=y} exp(z_ik))]

**Weights.** `w+` and `w-` weigh positives and negatives: one pair of images, or one image where a loss has proxies.
Weights that are all one give the unweighted loss.

**Empty cases.** An anchor without positives adds nothing (unless its own positive); a loss without
triplets is zero.

"""
AFTER_CRITERIA = """
Losses of triplets and quadruplets need `--batch_mining`; the others use the whole batch. With "xbm", `--xbm_size`
can add embeddings of past batches.
"""
IN_FORMULA = "as in the formula."
# The title of a paper between its authors and the venue.
TITLE = re.compile(r', "[^"]*"')
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
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)


def arguments(name: str, table: dict) -> str:
    """The flags of one class with their defaults, for a cell."""
    flags = table.get(name, {})
    return ", ".join(f"`{key}={default_text(flag.default)}`" for key, flag in flags.items())


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"|{'|'.join(cells)}|"


def head(*cells: str) -> list[str]:
    """The first two rows of a table."""
    return [row(*cells), row(*["---"] * len(cells))]


def prose(text: str) -> str:
    """A paragraph without titles, in which symbols are code, so that none reads as markup."""
    pieces = TITLE.sub("", text).split("`")
    pieces[::2] = [SYMBOL.sub(r"\1`\2`\3", piece) for piece in pieces[::2]]
    return textwrap.fill("`".join(pieces), 120, break_on_hyphens=False, break_long_words=False)


def paper(cls: type) -> str:
    """First author, venue and year, for a cell."""
    found = PAPER.search(parts(cls)[0])
    return f"{found[1]}, {found[2]}" if found else ""


def needs(cls: type) -> str:
    """What a criterion compares, and whether a cross-batch memory may serve it."""
    mining = "batch"
    if cls.needs_triplets:
        mining = "quadruplets" if cls.needs_quadruplets else "triplets"
    return f"{mining}, xbm" if cls.takes_references else mining


def weights_of(cls: type) -> str:
    """The paragraph on what the pair weights scale; nothing where the formula says it."""
    if cls.accepts_weight == "none":
        return "Weights: it takes none."
    weights = parts(cls)[2]
    if weights == IN_FORMULA:
        return ""
    if cls.placements == ("term",):
        return f"Weights: {weights}"
    return f"Weights (`--pair_weight_on {' or '.join(cls.placements)}`): {weights}"


def section(name: str, cls: type, *more: str) -> list[str]:
    """Source, formula and notes of one class, then more paragraphs."""
    opening, formula, _, rest = parts(cls)
    if formula:
        opening = opening.rstrip(".,") + ":"
    lines = [f"### {name}", "", prose(opening), ""]
    if formula:
        lines += [*(f"    {line}" for line in formula), ""]
    for paragraph in filter(None, (*rest, *more)):
        lines += [prose(paragraph), ""]
    return lines


def miners_note() -> str:
    """What holds for all miners, so that their sections need not say it."""
    several = [f"`{name}`" for name, cls in batchminer.MINERS.items() if not cls.one_per_anchor]
    return prose(f"An anchor has at most one triplet, except with {', '.join(several)}. Distances "
                 "are those of the rows as given, unless a section says otherwise.")


def page() -> str:
    """The whole file."""
    lines = [HEAD + "## Criteria", ""]
    lines += head("`--loss`", "paper", "needs", "flags")
    for name, cls in CRITERIA.items():
        flags = arguments(name, parameters.loss_flags())
        lines.append(row(f"[`{name}`](#{name})", paper(cls), needs(cls), flags))
    lines += [AFTER_CRITERIA, "## Miners", ""]
    lines += head("`--batch_mining`", "flags")
    for name in batchminer.MINERS:
        flags = arguments(name, parameters.miner_flags())
        lines.append(row(f"`{name}`", flags))
    lines += ["", "## Each criterion", ""]
    for name, cls in CRITERIA.items():
        lines += section(name, cls, weights_of(cls))
    lines += ["## Each miner", "", miners_note(), ""]
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
