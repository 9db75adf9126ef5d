"""memory.png: how much the context tells of an image, and the sentence that says where it does not."""
import math
from collections.abc import Sequence

from matplotlib import rc_context

from evaluation.report.figures import (
    BLUE,
    INK,
    LOOK,
    ORANGE,
    curve,
    draw_noisy,
    label_axes,
    new_figure,
)

HELD_OUT = "held_out_"
CONTEXT = {
    "context_std": "Standard deviation over images",
    "context_ratio": "Deviation relative to the embedding's",
    "context_r2": "R² of the decoded context (from −1)",
    "context_class_share": "Share of the variance between classes",
}
# an untrained memory has an R² of any size below zero
LOWEST = -1
# a context that deviates by a smaller share of what the embedding does is called a constant
CONSTANT = 0.05


@rc_context(LOOK)
def plot_context(steps: Sequence[dict], history: Sequence[dict], path) -> None:
    """Draw each number of CONTEXT over the steps, on training batches and on held-out classes.

    steps: rows with "step" and any of CONTEXT. history: rows with "step" and, where they were
    measured, the same names with HELD_OUT before them.
    """
    figure = new_figure(13.5, 3.6, "How much the context tells of an image")
    for axes, (name, title) in zip(figure.subplots(1, len(CONTEXT)), CONTEXT.items()):
        _draw_number(axes, name, steps, history)
        label_axes(axes, title, "training step", "")
    figure.savefig(path)


def _draw_number(axes, name: str, steps: Sequence[dict], history: Sequence[dict]) -> None:
    """One number, with a line at zero."""
    step, value = curve(steps, name, "step")
    draw_noisy(axes, step, value.clip(LOWEST), BLUE, "training batches")
    step, value = curve(history, HELD_OUT + name, "step")
    if len(step):
        style = {"color": ORANGE, "markersize": 3.5, "linewidth": 1.2}
        axes.plot(step, value.clip(LOWEST), "o-", label="held-out classes", **style)
    if axes.has_data():
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.legend()


def context_warning(history: Sequence[dict]) -> str:
    """A sentence where the context of held-out classes is a constant, or decoded as one; or ''.

    history: rows of metrics.csv; the last that measured the context counts, if it is trained.
    """
    measured = [row for row in history if f"{HELD_OUT}context_std" in row and row.get("epoch")]
    if not measured:
        return ""
    last = measured[-1]
    deviation = last[f"{HELD_OUT}context_std"]
    ratio = last.get(f"{HELD_OUT}context_ratio", 0)
    r2 = last.get(f"{HELD_OUT}context_r2", -math.inf)
    numbers = (f"standard deviation over images {deviation:.2g}, {100 * ratio:.2g} % of the "
               f"embedding's; R² of the decoded context {r2:.2g}")
    if ratio < CONSTANT:
        return (f"The context is close to a constant on held-out classes ({numbers}): it tells no "
                "images apart.")
    if r2 <= 0:
        return (f"The memory decodes no more than a constant on held-out classes ({numbers}): "
                "--memory constant would do as well.")
    return ""
