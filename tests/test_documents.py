"""Documents that are made from the source are up to date, and the source holds what they need."""
import re
from pathlib import Path

import pytest

from architectures.backbones import BACKBONES, weight_files
from architectures.network import POOLINGS
from batchminer import MINERS
from criteria import CRITERIA
from evaluation import METRICS
from parameters import build_parser
from scripts import document_criteria

ROOT = Path(__file__).parent.parent
PAGES = [str(path.relative_to(ROOT)) for folder in ("", "docs") for path in (ROOT / folder).glob("*.md")]


def test_the_table_of_criteria_is_up_to_date():
    assert document_criteria.PAGE.read_text() == document_criteria.page(), "run python scripts/document_criteria.py"


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_names_its_paper_its_formula_and_what_the_weights_scale(name):
    opening, formula, weights, _ = document_criteria.parts(CRITERIA[name])
    assert re.search(r"\(.*\b(19|20)\d\d\b.*\)", opening), "the first sentence names paper and year"
    assert any("=" in line for line in formula), "an indented formula"
    assert bool(weights) == (CRITERIA[name].accepts_weight != "none"), "a paragraph that begins with 'Weights:'"


@pytest.mark.parametrize("name", [*CRITERIA, *MINERS])
def test_every_criterion_and_miner_has_a_row(name):
    assert f"`{name}`" in document_criteria.PAGE.read_text()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_defined(name):
    written = re.sub("<(.*)>", lambda kind: {"k": "K", "m": "M", "rate": "RATE"}[kind[1]], name)
    assert re.search(rf"^\|.*`{re.escape(written)}`.*\|$", (ROOT / "docs" / "metrics.md").read_text(), re.M)


def test_every_backbone_pooling_and_file_of_weights_is_in_the_page():
    page = (ROOT / "docs" / "backbones.md").read_text()
    assert all(f"`{name}`" in page for name in (*BACKBONES, *POOLINGS))
    for name, source in weight_files().items():
        assert f"| `{name}` | {source.url}" in page and source.files[0] in page


@pytest.mark.parametrize("page", PAGES)
def test_flags_in_the_documents_exist(page):
    text = (ROOT / page).read_text()
    known = set(build_parser()._option_string_actions)
    rooms = ("architectures", "evaluation", "datasets", "scripts", "benchmarks", "examples")
    for file in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        source = file.read_text()
        # flags of the other commands, and of the benchmarks
        known |= set(re.findall(r'"(--\w+)"', source))
        for defaults in re.findall(r"parser_of\((.*?)\)", source, re.DOTALL):
            known |= {f"--{name}" for name in re.findall(r"(\w+)=", defaults)}
    example = {"--loss_binomialdeviance_scale", "--loss_binomialdeviance_thresh"}
    launchers = {"--nnodes", "--nproc_per_node", "--rdzv_backend", "--rdzv_endpoint", "--rdzv_id",
                 "--kill-on-bad-exit", "--index-url"}
    for flag in set(re.findall(r"(?<![\w-])--[a-z][\w-]*\w", text)) - example - launchers:
        assert flag in known or (flag.endswith("_") and any(k.startswith(flag) for k in known)), flag


@pytest.mark.parametrize("page", PAGES)
def test_links_in_the_documents_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)\)", (ROOT / page).read_text()):
        assert target.startswith("http") or ((ROOT / page).parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_to_a_heading_find_it(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", (ROOT / page).read_text()):
        heading = (ROOT / page).parent / target if target else ROOT / page
        assert anchor in anchors(heading), f"{target}#{anchor}"


@pytest.mark.parametrize("title", [
    "Learned Pair Weighting and Contextual Memory for Deep Metric Learning",
    "Revisiting Training Strategies and Generalization Performance in Deep Metric Learning",
])
@pytest.mark.parametrize("file", ["README.md", "CITATION.cff"])
def test_both_works_are_named_where_they_are_looked_for(file, title):
    text = " ".join((ROOT / file).read_text().split())
    assert title in text
