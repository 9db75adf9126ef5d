"""One page about a run: `python -m evaluation.report RUN` writes RUN/report.html from the files of the run's folder.

The page holds everything in itself (under 3 MB, the pictures at most PICTURE_LIMIT each) and asks nothing of any
network. Of a run that is still going it shows what there is. What it reads may be of any origin: texts are escaped, and
what cannot be read is left out.
"""
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from evaluation.report.curves import metric_curves, policy_curves, training_curves
from evaluation.report.style import STYLE
from evaluation.run_files import EXPLORER, REPORT, Run, read_run, row_numbers, table_rows
from parameters import chosen_flags
from utilities.cells import NO_SHARES, metric_names, shown, with_interval
from utilities.command_line import Formatter, Parser
from utilities.errors import answer
from utilities.html import Element, element, page, picture, section, table
from utilities.logger import write_text
from utilities.rules import cannot_apply

PICTURE_LIMIT = 600_000                    # bytes of each picture
ROWS = 15                                  # of confusions and of worst classes
LONGEST = 80                               # characters of a name or a value
HEADLINES = 4                              # metrics in large type
PICTURES = {
    "gallery.png": ("Retrieval", "Queries on the left, each with its nearest test images in order; a solid green frame "
                                 "with a tick is the query's class, a dashed red one with a cross is not."),
    "embedding.png": ("Map of the test images", "The test embeddings in two dimensions (t-SNE); near points are alike, "
                                                "far distances mean nothing."),
    "policy.png": ("What the policy chose", "The probability of every action over the training, with entropy, reward "
                                            "and the advantage over uniform weights."),
}


# ------------------------------------------------------------------------------------------------------ numbers


def scores(run: Run) -> dict[str, dict[str, float]]:
    """The metrics with their intervals of the untrained network, each best checkpoint and the last evaluation."""
    names = [name + end for name in run.metrics for end in ("", "_low", "_high")]
    evaluated = [row for row in run.history if any(name in row for name in names)]
    last = evaluated[-1] if evaluated else {}
    final = "final" if run.finished else f"epoch {last.get('epoch', 0):.0f}"
    found = {"untrained": run.result["untrained"] or (_those(evaluated[0], names) if evaluated else {}),
             final: run.result["final"] or _those(last, names)}
    best = run.result.get("best")
    for name, entry in (best if isinstance(best, dict) else {}).items():
        if isinstance(entry, dict) and isinstance(entry.get("metrics"), dict):
            origin = f"epoch {entry.get('epoch')}, by {entry.get('chosen_on')}"
            found[f"best {name} ({short_text(origin)})"] = row_numbers(entry["metrics"])
    if validation := {name: last[f"val_{name}"] for name in names if f"val_{name}" in last}:
        found["validation classes, last"] = validation
    return {name: row for name, row in found.items() if row}


def _those(row: dict, names: list[str]) -> dict:
    return {name: row[name] for name in names if name in row}


def headline(run: Run, columns: dict[str, dict[str, float]]) -> Element | None:
    """The metrics that choose the checkpoint, in large type: the last evaluation beside untrained and best."""
    final = next((row for name, row in columns.items() if name.startswith(("final", "epoch"))), None)
    if final is None:
        return None
    wanted = dict.fromkeys([*run.names("storage_metrics"), *metric_names(final)])
    cards = []
    for metric in [name for name in wanted if name in final][:HEADLINES]:
        others = {name.partition(" (")[0]: row[metric] for name, row in columns.items()
                  if metric in row and row is not final and name.startswith(("untrained", f"best {metric} "))}
        words = " · ".join(f"{name.removesuffix(' ' + metric)} {shown(metric, value)}"
                           for name, value in others.items())
        unit = None if metric.startswith(NO_SHARES) else element("small", " %")
        cards.append(element("div", element("dt", metric), element("dd", shown(metric, final[metric]), unit),
                             element("p", words), class_="card"))
    return element("dl", *cards, class_="cards")


def metric_section(columns: dict[str, dict[str, float]]) -> Element | None:
    """Every metric, with its interval where there is one."""
    metrics = list(dict.fromkeys(metric for row in columns.values() for metric in metric_names(row)))
    if not metrics:
        return None
    rows = [[metric, *(with_interval(row, metric) if metric in row else "–" for row in columns.values())]
            for metric in metrics]
    return section("Metrics", table("Percent, on classes that were never trained on; dists and rho_spectrum as they "
                                    "are. Brackets: 95 % interval over the classes.", ["metric", *columns], rows))


# ------------------------------------------------------------------------------------------- pictures and classes


def picture_section(run: Run, name: str) -> Element | None:
    """One of the run's pictures, if it is there."""
    title, words = PICTURES[name]
    image = picture(run.folder / name, f"{title}: {words}", PICTURE_LIMIT)
    return image if image is None else section(title, element("figure", image, element("figcaption", words)))


def class_section(run: Run) -> Element | None:
    """The classes that are mixed up most, and those that are found worst."""
    confused = [[f"{short_text(row.get('name'))} taken for {short_text(row.get('taken_for'))}",
                 f"{short_text(row.get('count'))} of {short_text(row.get('queries'))}"]
                for row in table_rows(run.folder / "confusions.csv")[:ROWS]]
    worst = table_rows(run.folder / "per_class.csv")[:ROWS]
    tables = []
    if confused:
        tables.append(table("Mixed up most: images of one class whose nearest image shows another.",
                            ["classes", "images"], confused))
    if worst:
        metrics = [name for name in worst[0] if name not in ("class", "images", None)]
        rows = [[short_text(row.get("class")), short_text(row.get("images")), *(_share(row, m) for m in metrics)]
                for row in worst]
        tables.append(table("Found worst (metrics as in the table above).", ["class", "images", *metrics], rows))
    return section("Classes", *tables) if tables else None


def _share(row: dict, metric: str) -> str:
    values = row_numbers({metric: row.get(metric)})
    return shown(metric, values[metric]) if values else "–"


# --------------------------------------------------------------------------------------------- flags and origin


def flag_section(run: Run) -> Element:
    """The flags: those that were chosen, and behind a line to open the others that have an effect."""
    chosen, silent = _sorted_flags(run.flags)
    rest = [flag for flag in run.flags if flag not in chosen and flag not in silent]
    first = flag_table(run, "Chosen: these differ from the defaults.", chosen) if chosen else element(
        "p", "Every flag has its default.")
    others = element("details", element("summary", f"{len(rest)} flags with their defaults"),
                     flag_table(run, "Defaults.", rest)) if rest else None
    return section("Flags", first, others)


def _sorted_flags(flags: dict) -> tuple[list[str], set[str]]:
    """The flags that were chosen, and those without effect; of a run of another version perhaps none."""
    try:
        chosen = chosen_flags({flag: value for flag, value in flags.items() if value is not None})
        silent = {flag for flag in flags if flag not in chosen and cannot_apply(flag, Namespace(**flags))}
    except (AttributeError, KeyError, TypeError):
        return [], set()
    return list(chosen), silent


def flag_table(run: Run, caption: str, flags: list[str]) -> Element:
    """Flags with their values."""
    return table(caption, ["flag", "value"], [[f"--{short_text(flag)}", short_text(run.flags[flag])] for flag in flags],
                 numeric=False)


def origin_section(run: Run) -> Element:
    """Code, machine and cost."""
    options, result = run.options, run.result
    changed = " and uncommitted changes" if options.get("uncommitted_changes") else ""
    versions = options.get("versions")
    facts = {"commit": f"{options['commit']}{changed}" if options.get("commit") else None,
             "device": options.get("device"), "model": options.get("device_model"), "system": options.get("system"),
             "threads": options.get("threads"), "processes": options.get("processes"),
             "time": _duration(result.get("seconds") or (run.history[-1].get("seconds") if run.history else None)),
             "time an epoch": _duration(result.get("seconds_per_epoch")), "steps": result.get("steps"),
             "peak memory (MiB)": result.get("peak_memory_mib"),
             **(versions if isinstance(versions, dict) else {})}
    rows = [[short_text(name), short_text(value)] for name, value in facts.items() if value is not None]
    again = element("code", f"python main.py --repeat {run.folder / 'options.json'}")
    return section("Origin", table("Code, machine and cost.", ["", ""], rows, numeric=False),
                   element("p", "The same again: ", again))


def _duration(seconds: Any) -> str | None:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# --------------------------------------------------------------------------------------------------------- the page


def short_text(value: Any) -> str:
    """A value of unknown origin as a text of bounded length."""
    text = " ".join([str(part) for part in value]) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST - 1] + "…"


def report(run: Run) -> str:
    """The page."""
    columns = scores(run)
    state = None if run.finished else element("p", "This run has not finished; the page shows what there is so far.",
                                            class_="notice")
    link = element("a", "Explore the test images", href=EXPLORER) if (run.folder / EXPLORER).is_file() else None
    facts = element("p", " · ".join([short_text(fact) for fact in run.facts]), link)
    header = element("header", element("h1", run.folder.name), facts, state, headline(run, columns))
    sections = [metric_section(columns), metric_curves(run), training_curves(run), policy_curves(run),
                *(picture_section(run, name) for name in PICTURES), class_section(run), flag_section(run),
                origin_section(run)]
    return page(f"{run.folder.name} – LM-Metric", STYLE, header, element("main", *sections))


def write_report(folder: Path) -> Path:
    """Write report.html into the folder of a run; returns its path."""
    write_text(folder / REPORT, report(read_run(folder)))
    return folder / REPORT


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    parser = Parser(prog="python -m evaluation.report", formatter_class=Formatter, allow_abbrev=False,
                    description="One self-contained page about a run, made from the files of its folder.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, finished or not")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error instead of one sentence.")
    opt = parser.parse_args(argv)

    def command() -> None:
        for folder in opt.runs:
            print(write_report(folder))
    return answer("evaluation.report", command, debug=opt.debug)
