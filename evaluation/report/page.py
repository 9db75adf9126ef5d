"""report.html: one page about a run, made from the files of its folder.

The page contains everything it shows: it is under 3 MB, each picture at most PICTURE_LIMIT bytes.
Of a run that is still going it shows what exists. The files may be of any origin: texts are
escaped, unreadable files are left out.
"""
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from evaluation.pages import PALETTE, render, shorten
from evaluation.report.charts import HEIGHT, WIDTH
from evaluation.report.curves import metric_charts, policy_charts, training_charts
from evaluation.report.image_data import image_data
from evaluation.report.scores import cards, metric_lines, scores
from evaluation.run_files import EXPLORER, REPORT, Run, read_run, row_numbers, table_rows
from parameters import chosen_flags
from utilities.cells import shown
from utilities.logger import write_text
from utilities.rules import cannot_apply

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
PICTURE_LIMIT = 600_000  # bytes of each picture
PICTURES = ("gallery.png", "embedding.png", "policy.png")
ROWS = 15  # of confusions and of worst classes


def write_report(folder: Path) -> Path:
    """Write report.html into the folder of a run; returns its path."""
    write_text(folder / REPORT, report(read_run(folder)))
    return folder / REPORT


def report(run: Run) -> str:
    """The page."""
    columns = scores(run)
    held_out = run.result.get("held_out_advantage_over_uniform")
    return render(
        "report/report.html.j2",
        style=PALETTE + STYLE,
        run=run,
        explorer=EXPLORER if (run.folder / EXPLORER).is_file() else None,
        cards=cards(run, columns),
        metrics=metric_lines(columns),
        view_box=f"0 0 {WIDTH} {HEIGHT}",
        metric_charts=metric_charts(run),
        training_charts=training_charts(run),
        policy_charts=policy_charts(run),
        held_out=row_numbers(held_out) if isinstance(held_out, dict) else {},
        images={name: image_data(run.folder / name, PICTURE_LIMIT) for name in PICTURES},
        confusions=confusion_lines(run),
        worst=worst_lines(run),
        flags=flag_lines(run.flags),
        origin=origin_lines(run),
    )


def confusion_lines(run: Run) -> list[list[str]]:
    """The classes that are mixed up most."""
    lines = [["classes", "images"]]
    for row in table_rows(run.folder / "confusions.csv")[:ROWS]:
        cells = {name: shorten(row.get(name)) for name in ("name", "taken_for", "count", "queries")}
        classes = "{name} taken for {taken_for}".format_map(cells)
        lines.append([classes, "{count} of {queries}".format_map(cells)])
    return lines


def worst_lines(run: Run) -> list[list[str]]:
    """The classes with the lowest metrics."""
    rows = table_rows(run.folder / "per_class.csv")[:ROWS]
    names = [name for name in (rows[0] if rows else ()) if name not in ("class", "images", None)]
    lines = [["class", "images", *names]]
    for row in rows:
        numbers = row_numbers(row)
        metrics = [shown(name, numbers[name]) if name in numbers else "–" for name in names]
        lines.append([shorten(row.get("class")), shorten(row.get("images")), *metrics])
    return lines


def flag_lines(flags: dict) -> dict[str, list[list[str]]]:
    """The flags that were chosen, and the others that have an effect."""
    chosen, others = sorted_flags(flags)
    head = ["flag", "value"]
    lines = {flag: [f"--{shorten(flag)}", shorten(flags[flag])] for flag in flags}
    return {
        "chosen": [head, *(lines[flag] for flag in chosen)],
        "others": [head, *(lines[flag] for flag in others)],
    }


def sorted_flags(flags: dict) -> tuple[list[str], list[str]]:
    """The flags that were chosen, and the others that have an effect.

    The flags of another version may be unknown to this one; then all are among the others.
    """
    given = {flag: value for flag, value in flags.items() if value is not None}
    try:
        chosen = list(chosen_flags(given))
        rest = [flag for flag in flags if flag not in chosen]
        return chosen, [flag for flag in rest if not cannot_apply(flag, Namespace(**flags))]
    except (AttributeError, KeyError, TypeError):
        return [], list(flags)


def origin_lines(run: Run) -> list[list[str]]:
    """Code, machine and cost, as far as they are known."""
    options = run.options
    result = run.result
    last = run.history[-1] if run.history else {}
    changed = " and uncommitted changes" if options.get("uncommitted_changes") else ""
    versions = options.get("versions")
    facts = {
        "commit": f"{options['commit']}{changed}" if options.get("commit") else None,
        "device": options.get("device"),
        "model": options.get("device_model"),
        "system": options.get("system"),
        "threads": options.get("threads"),
        "processes": options.get("processes"),
        "time": duration(result.get("seconds") or last.get("seconds")),
        "time an epoch": duration(result.get("seconds_per_epoch")),
        "steps": result.get("steps"),
        "peak memory (MiB)": result.get("peak_memory_mib"),
    }
    facts |= versions if isinstance(versions, dict) else {}
    known = {name: value for name, value in facts.items() if value is not None}
    return [["", ""], *([shorten(name), shorten(value)] for name, value in known.items())]


def duration(seconds: Any) -> str | None:
    """A time in seconds, minutes or hours; None for what is no number."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    if seconds < 60:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
