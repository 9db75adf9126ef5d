"""explorer.html: the template, and the data of which its script makes the lists of images.

Names are JSON, numbers base64 of little-endian arrays; thumbnails are sheets in the style. Script
and style lie in evaluation/explorer/parts/.
"""
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from evaluation.explorer.atlas import COLUMNS, ROWS, Atlas, draw_atlas
from evaluation.explorer.data import Explorer
from evaluation.explorer.marking import marking
from evaluation.pages import PALETTE, clean, render, shorten
from evaluation.report.embedding_map import COLOURS, LEGEND
from evaluation.run_files import EXPLORER, REPORT, read_run
from utilities.logger import write_text
from utilities.text import counted

PARTS = Path(__file__).parent / "parts"
SCRIPTS = (
    "data",
    "thumbnails",
    "filter",
    "images",
    "classes",
    "map",
    "map_moves",
    "inspector",
    "marks",
    "marking",
    "start",
)


class Heading(NamedTuple):
    """Whose images these are: a title, facts, metrics by name, and the page to go back to.

    root: the folder that the paths of the table of marks begin in; None: the deepest of all images.
    """

    title: str
    facts: Sequence[str]
    metrics: dict[str, float]
    back: str | None = None
    root: Path | None = None


def write_run_explorer(folder: Path, explorer: Explorer) -> None:
    """Write explorer.html of a run, after its other files."""
    run = read_run(folder)
    heading = Heading(folder.name, run.facts, run.result["final"], REPORT)
    write_explorer(folder / EXPLORER, explorer, heading)


def write_explorer(path: Path, explorer: Explorer, heading: Heading) -> str:
    """Write the page; returns what it contains, in words."""
    atlas = draw_atlas(explorer.paths)
    text = explorer_page(explorer, atlas, heading)
    write_text(path, text)
    opened = len(explorer.neighbour)
    damaged = f", {len(atlas.unreadable):,} of them unreadable" if atlas.unreadable else ""
    return (
        f"{opened:,} of {counted(explorer.total, 'image')} can be opened, {len(explorer.paths):,} are shown "
        f"at {atlas.side} pixels{damaged}; {len(text) / 1e6:.1f} MB. Written to {path}"
    )


def explorer_page(explorer: Explorer, atlas: Atlas, heading: Heading) -> str:
    """The whole page."""
    opened = len(explorer.neighbour)
    return render(
        "explorer/explorer.html.j2",
        style="\n".join([PALETTE, _part("style.css"), *_rules(atlas)]),
        script="\n".join(_part(f"{name}.js") for name in SCRIPTS),
        heading=heading,
        total=explorer.total,
        opened=opened,
        added=len(explorer.paths) - opened,
        unreadable=len(atlas.unreadable),
        gallery=explorer.gallery,
        kind="test" if any(line.queries for line in explorer.classes) else "catalogue",
        points=len(explorer.shown),
        data={**content(explorer, atlas), **marking(explorer, heading.root)},
    )


def content(explorer: Explorer, atlas: Atlas) -> dict:
    """What the script knows."""
    return {
        "opened": len(explorer.neighbour),
        "depth": explorer.neighbour.shape[1],
        "gallery": explorer.gallery is not None,
        "columns": COLUMNS,
        "rows": ROWS,
        "side": atlas.side,
        "unreadable": atlas.unreadable,
        "files": [clean(path.name) for path in explorer.paths],
        **folders_of(explorer.paths),
        "label": _packed(explorer.label, "<i4"),
        "neighbour": _packed(explorer.neighbour, "<i4"),
        "similarity": _packed(explorer.similarity, "<f4"),
        "classes": [[shorten(line.name), *line[1:]] for line in explorer.classes],
        "group": explorer.group,
        "groups": [shorten(name) for name in explorer.group_names],
        "drawn": explorer.drawn,
        "legend": LEGEND,
        "colours": len(COLOURS),
        "shown": _packed(explorer.shown, "<i4"),
        "point": _packed(explorer.point, "<f4"),
    }


def folders_of(paths: Sequence[Path]) -> dict[str, list]:
    """The folders that the images lie in, each once, and the number of each image's."""
    names = [path.parent.as_posix() for path in paths]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return {
        "folders": [clean(name) for name in numbers],
        "folder": [numbers[name] for name in names],
    }


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def _packed(numbers: Tensor, dtype: str) -> str:
    """A tensor's numbers, row by row, as base64 of that type."""
    return base64.b64encode(numbers.numpy().astype(dtype).tobytes()).decode()


def _rules(atlas: Atlas) -> list[str]:
    """The style's rules of colours and of sheets of thumbnails."""
    colours = [f"--g{i}: {colour};" for i, colour in enumerate(COLOURS)]
    rules = [f":root {{ --columns: {COLUMNS}; }}", f":root {{ {' '.join(colours)} }}"]
    for i, sheet in enumerate(atlas.sheets):
        source = f"data:image/jpeg;base64,{base64.b64encode(sheet).decode()}"
        rules.append(f'.a{i} {{ background-image: url("{source}"); }}')
    return rules
