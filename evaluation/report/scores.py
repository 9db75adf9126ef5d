"""The metrics of a run as the report shows them: untrained, best, final, on validation classes."""
import re

from evaluation.pages import shorten
from evaluation.run_files import Run, row_numbers
from utilities.cells import metric_names
from utilities.metric_names import measured

HEADLINES = 4  # metrics in large type
# what metrics mean; {} is the number in their name
WORDS = {
    "recall": "queries with a hit among the nearest {}",
    "precision": "share of hits among the nearest {}",
    "r_precision": "share of hits among as many as there are to find",
    "mrr": "1 / rank of the first hit, on average",
    "mAP": "mean average precision",
    "mAP_r": "MAP@R: average precision of the nearest R",
    "nmi": "how well clusters match the classes",
    "ami": "how well clusters match the classes, beyond chance",
    "f1": "pairs that clusters put together rightly",
    "dists@intra": "mean distance within classes",
    "dists@inter": "mean distance between classes",
    "rho_spectrum": "how unevenly the dimensions are used",
}


def scores(run: Run) -> dict[str, dict[str, float]]:
    """The metrics and intervals: untrained, final, each best checkpoint, validation classes."""
    names = run.metrics
    evaluated = [row for row in run.history
                 if measured(row, names) or measured(row, names, "val_")] or [{}]
    first = measured(evaluated[0], names)
    last = measured(evaluated[-1], names)
    epoch = evaluated[-1].get("epoch", 0)
    rows = {"untrained": run.result["untrained"] or first}
    rows["final" if run.finished else f"epoch {epoch:.0f}"] = run.result["final"] or last
    for name, entry in run.best.items():
        source = f"epoch {entry.get('epoch')}, by {entry.get('chosen_on')}"
        rows[f"best {name} ({shorten(source)})"] = row_numbers(entry["metrics"])
    rows["validation classes, last"] = measured(evaluated[-1], names, "val_")
    return {name: row for name, row in rows.items() if row}


def words_of(metric: str) -> str:
    """What a metric means, in a few words; '' where none are known."""
    stem = re.sub("^(ctx_)?([ec]_)?", "", metric)
    name, _, number = stem.partition("@")
    return WORDS.get(stem, WORDS.get(name, "")).format(number)


def headlines(run: Run, last: dict[str, float]) -> list[str]:
    """HEADLINES metrics of the last evaluation, first those that choose the checkpoint."""
    names = dict.fromkeys([*run.names("storage_metrics"), *metric_names(last)])
    return [name for name in names if name in last][:HEADLINES]
