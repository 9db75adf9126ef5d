"""report.html: one page about a run, made from the files of its folder.

The page contains everything it shows: it is under 3 MB, each picture at most PICTURE_LIMIT bytes.
Of a run that is still going it shows what exists. The files may be of any origin: texts are
escaped, unreadable files are left out.
"""
import math
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

from evaluation.pages import PALETTE, render
from evaluation.report.charts import HEIGHT, WIDTH
from evaluation.report.context import context_warning
from evaluation.report.curves import context_charts, metric_charts, policy_charts, training_charts
from evaluation.report.image_data import image_data
from evaluation.report.scores import headlines, scores, words_of
from evaluation.run_files import (
    EXPLORER,
    REPORT,
    Run,
    continuations,
    read_run,
    row_numbers,
    table_rows,
)
from parameters import chosen_flags
from utilities.cells import metric_names
from utilities.files import section
from utilities.logger import write_text
from utilities.rules import why_idle
from utilities.tested import note_of_all, tested_on

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
    last = next((columns[name] for name in columns if name.startswith(("final", "epoch"))), {})
    chosen, others = sorted_flags(run.flags)
    return render(
        "report/report.html.j2",
        style=PALETTE + STYLE,
        run=run,
        explorer=EXPLORER if (run.folder / EXPLORER).is_file() else None,
        last=last,
        headlines=headlines(run, last),
        columns=columns,
        metrics=list(dict.fromkeys(name for row in columns.values() for name in metric_names(row))),
        view_box=f"0 0 {WIDTH} {HEIGHT}",
        metric_charts=metric_charts(run),
        training_charts=training_charts(run),
        policy_charts=policy_charts(run),
        context_charts=context_charts(run),
        warning=context_warning(run.history),
        held_out=row_numbers(section(run.result, "held_out_advantage_over_uniform")),
        images={name: image_data(run.folder / name, PICTURE_LIMIT) for name in PICTURES},
        confusions=table_rows(run.folder / "confusions.csv")[:ROWS],
        worst=table_rows(run.folder / "per_class.csv")[:ROWS],
        numbers=row_numbers,
        words_of=words_of,
        tested=tested_on(run.flags),
        note=note_of_all(run.flags),
        chosen=chosen,
        others=others,
        origin=origin(run),
        repeat=shlex.join(["python", "main.py", "--repeat", str(run.folder / "options.json")]),
    )


def sorted_flags(flags: dict) -> tuple[list[str], list[str]]:
    """The flags that were chosen, and the others that have an effect.

    The flags of another version may be unknown to this one; then all are among the others.
    """
    given = {flag: value for flag, value in flags.items() if value is not None}
    try:
        chosen = list(chosen_flags(given))
        rest = [flag for flag in flags if flag not in chosen]
        return chosen, [flag for flag in rest if not why_idle(flag, Namespace(**flags))]
    except (AttributeError, KeyError, TypeError):
        return [], list(flags)


def origin(run: Run) -> dict[str, Any]:
    """Code, machine and cost; None for what is unknown."""
    options = run.options
    result = run.result
    last = run.history[-1] if run.history else {}
    commit = options.get("commit")
    changed = " and uncommitted changes" if options.get("uncommitted_changes") else ""
    facts = {
        "commit": f"{commit}{changed}" if commit else None,
        "device": options.get("device"),
        "model": options.get("device_model"),
        "system": options.get("system"),
        "threads": options.get("threads"),
        "processes": options.get("processes"),
        "continued at step": ", ".join(str(entry.get("step")) for entry in continuations(options)) or None,
        "time": duration(result.get("seconds") or last.get("seconds")),
        "time an epoch": duration(result.get("seconds_per_epoch")),
        "steps": result.get("steps"),
        "peak memory (MiB)": result.get("peak_memory_mib"),
    }
    return facts | section(options, "versions")


def duration(seconds: Any) -> str | None:
    """A time in seconds, minutes or hours; None for what is no number."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    if seconds < 60:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
