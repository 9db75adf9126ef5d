"""Pictures of a run: its curves, and what its policy did. Matplotlib's objects only, so nothing global changes."""
import math
from collections.abc import Sequence

import numpy as np

INK, QUIET, BLUE, ORANGE, GREEN, GREY = "#222222", "#6b6b6b", "#2f5d9b", "#c8691c", "#3a7d5d", "#9a9a9a"
PURPLE, OCHRE = "#7a4f9c", "#b8962e"
LOSSES = {"loss": ("total", INK), "metric": ("metric", BLUE), "metric_memory": ("metric, decoded context", ORANGE),
          "metric_xbm": ("metric, past batches", PURPLE), "metric_proxies": ("metric, proxies of classes", OCHRE)}
TERMS = {"memory_nll": "memory NLL", "policy": "policy loss"}
LABELS = 12   # more rows than this in a heat map are labelled sparsely


def plot_progress(history: list[dict], metrics: list[str], path) -> None:
    """progress.png: the loss, its terms and each test metric over the epochs, the last value written at its end.

    history: one row an epoch with "epoch" and any of LOSSES, "memory_nll", "policy", the metrics' names and, with the
    prefix val_, their values on validation classes. What a row lacks is skipped.
    """
    lines = [_loss_lines(history)]
    lines += [{label: (*_curve(history, key), BLUE)} for key, label in TERMS.items()]
    lines += [_metric_lines(history, name) for name in metrics]
    panels = [shown for panel in lines if (shown := {k: v for k, v in panel.items() if len(v[0])})]
    columns = min((4, 5, 3), key=lambda c: -len(panels) % c) if len(panels) > 4 else max(1, len(panels))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = _figure(max(5.0, 3.3 * columns), 2.6 * rows + 0.5, "Training progress")
    for place, panel in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, place), panel)
    if not panels:
        figure.text(0.5, 0.5, "nothing recorded yet", ha="center", color=QUIET)
    figure.savefig(path)


def plot_policy(records: list[dict], path, positive_values: Sequence[float], negative_values: Sequence[float],
                names: tuple[str, str] = ("b_p", "b_n"), history: Sequence[dict] = ()) -> None:
    """policy.png: the probability of every action over the training, entropy, reward, advantage over uniform weights,
    and how the weights go with AP.

    records: one dict a logged step with "step", "reward", "advantage_spread", "entropy_positive", "entropy_negative"
    (nats), "probability_positive", "probability_negative" (one number an action) and, where they were measured,
    "advantage_over_uniform", "correlation_positive" and "correlation_negative". history: rows with "step" and, where it
    was measured, "held_out_advantage" with its standard error "held_out_advantage_error". The values are those of the
    actions; the line in a map is their expectation.
    """
    figure = _figure(13.5, 7.6, "What the policy chose, and what it was worth")
    above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    signs = (("positive", positive_values), ("negative", negative_values))
    for axes, (sign, values), name in zip(above.subplots(1, 2), signs, names):
        _label(axes, f"Weights of the {sign} pairs", "training step", f"action {name}", grid=False)
        _draw_actions(above, axes, *_table(records, f"probability_{sign}"), np.asarray(values, dtype=float))
    entropy, reward, advantage, correlation = below.subplots(1, 4)
    _draw_entropy(entropy, records, signs, names)
    _draw_reward(reward, records)
    _draw_advantage(advantage, records, history)
    _draw_correlation(correlation, records)
    figure.savefig(path)


# ------------------------------------------------------------------------------------------------- progress


def _curve(rows: list[dict], key: str, over: str = "epoch") -> tuple[np.ndarray, np.ndarray]:
    """The finite values of a key and where they stand; rows without one are skipped."""
    pairs = [(row[over], row[key]) for row in rows if isinstance(row.get(key), int | float) and over in row]
    table = np.asarray(pairs, dtype=float).reshape(-1, 2)                          # (rows, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]


def _loss_lines(history: list[dict]) -> dict:
    """Total and metric terms share one panel, for they share a scale; a term equal to the total is not drawn twice."""
    lines = {f"loss: {label}": (*_curve(history, key), colour) for key, (label, colour) in LOSSES.items()}
    total, metric = lines["loss: total"][1], lines["loss: metric"][1]
    if np.array_equal(total, metric):
        del lines["loss: metric"]
    return lines


def _metric_lines(history: list[dict], name: str) -> dict:
    """A metric in percent on test and, where there are any, on validation classes."""
    lines = {}
    for label, key, colour in ((name, name, GREEN), (f"{name} (validation)", f"val_{name}", GREY)):
        epoch, value = _curve(history, key)
        lines[label] = (epoch, 100 * value, colour)
    return lines


def _draw_panel(axes, panel: dict) -> None:
    """Curves over epochs; one alone is named by the title, several by a legend."""
    percent = any(colour == GREEN for *_, colour in panel.values())
    for label, (epoch, value, colour) in panel.items():
        axes.plot(epoch, value, color=colour, linewidth=1.6, marker="o" if len(epoch) < 25 else None, markersize=3,
                  label=label.removeprefix("loss: "))
    first = next(iter(panel))
    _label(axes, first.partition(":")[0], "epoch", "percent" if percent else "")
    _annotate_last(axes, panel, "{:.1f}" if percent else "{:#.3g}")
    if len(panel) > 1:
        axes.legend(fontsize=7, frameon=False, loc="best")


def _annotate_last(axes, panel: dict, form: str) -> None:
    """The last value of each curve right of its end, moved apart where two would overlap."""
    ends = sorted((value[-1], epoch[-1], colour) for epoch, value, colour in panel.values())
    for place, (value, epoch, colour) in zip(_apart([value for value, *_ in ends], *axes.get_ylim()), ends):
        axes.annotate(form.format(value), (epoch, place), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=8, color=colour, weight="bold")
    start, end = min(epoch[0] for epoch, *_ in panel.values()), max(epoch for _, epoch, _ in ends)
    wide = max(end - start, 1)
    axes.set_xlim(start - 0.04 * wide, end + 0.2 * wide)
    axes.set_xticks([tick for tick in axes.get_xticks() if start <= tick <= end])  # none under the numbers


def _apart(values: list[float], low: float, high: float) -> list[float]:
    """Ascending places near ascending values, no two closer than a line of text and none above `high`."""
    gap, places = 0.09 * (high - low), []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    places[-1] = min(places[-1], high)
    for i in reversed(range(len(places) - 1)):
        places[i] = min(places[i], places[i + 1] - gap)
    return places


# ------------------------------------------------------------------------------------------------- policy


def _table(records: list[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps (T,) and the probabilities (T, A) of the records that hold them."""
    held = [(row["step"], row[key]) for row in records if row.get(key)]
    return np.asarray([step for step, _ in held], dtype=float), np.asarray([p for _, p in held], dtype=float)


def _draw_actions(figure, axes, step: np.ndarray, probability: np.ndarray, values: np.ndarray) -> None:
    """A heat map, one row an action value, with the expected value over it where the values ascend."""
    if not len(step):
        return _draw_nothing(axes)
    colours = axes.pcolormesh(_edges(step), np.arange(len(values) + 1) - 0.5, probability.T, cmap="Blues", vmin=0,
                              vmax=max(probability.max(), 1e-9), rasterized=True)
    bar = figure.colorbar(colours, ax=axes, pad=0.02, aspect=30)
    bar.set_label("probability", fontsize=8, color=QUIET)
    bar.ax.tick_params(labelsize=7, colors=QUIET)
    bar.outline.set_visible(False)
    if (np.diff(values) > 0).all():
        expected = np.interp(probability @ values, values, np.arange(len(values)))                # (T,) in rows
        axes.plot(step, expected, color="white", linewidth=3.4)
        axes.plot(step, expected, color=ORANGE, linewidth=1.8, marker="o" if len(step) == 1 else None,
                  label=f"expected value, last {probability[-1] @ values:.3g}")
        axes.legend(fontsize=7.5, loc="lower left", bbox_to_anchor=(0.58, 1.0), frameon=False, borderpad=0.2)
    shown = np.arange(len(values)) if len(values) <= LABELS else np.linspace(0, len(values) - 1, 9).round().astype(int)
    axes.set_yticks(shown, [f"{values[i]:.3g}" for i in shown])
    return None


def _edges(step: np.ndarray) -> np.ndarray:
    """Borders of cells around the steps, (T + 1,); the outermost as wide as their neighbours."""
    if len(step) == 1:
        return np.array([step[0] - 1, step[0] + 1])
    middle = (step[1:] + step[:-1]) / 2                                            # (T - 1,)
    return np.concatenate([[2 * step[0] - middle[0]], middle, [2 * step[-1] - middle[-1]]])


def _draw_entropy(axes, records: list[dict], signs, names: tuple[str, str]) -> None:
    """Entropies of both heads, each under the dashed line of uniform choice."""
    for (sign, values), name, colour in zip(signs, names, (BLUE, ORANGE)):
        step, value = _curve(records, f"entropy_{sign}", "step")
        _draw_noisy(axes, step, value, colour, f"{name}, {sign} pairs")
        axes.axhline(math.log(len(values)), color=colour, linestyle=(0, (4, 3)), linewidth=1)
    found = [row[f"entropy_{sign}"] for row in records for sign, _ in signs if f"entropy_{sign}" in row]
    lowest = min(found, default=0)                                                 # of a density it may be negative
    axes.set_ylim(min(0, 1.12 * lowest), 1.12 * max(math.log(max(len(values), 2)) for _, values in signs))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7.5, frameon=False, loc="best")
    _label(axes, "Entropy (dashed: uniform choice)", "training step", "nats")


def _draw_reward(axes, records: list[dict]) -> None:
    """The reward, and around it how far the sampled actions spread."""
    step, value = _curve(records, "reward", "step")
    _draw_noisy(axes, step, value, GREEN, None)
    both = [row for row in records if "reward" in row and "advantage_spread" in row]
    centre, spread = _smooth(_curve(both, "reward", "step")[1]), _smooth(_curve(both, "advantage_spread", "step")[1])
    if len(centre) == len(spread) == len(both):
        axes.fill_between([row["step"] for row in both], centre - spread, centre + spread, color=GREEN, alpha=0.15,
                          linewidth=0)
    _label(axes, "Reward (band: spread of the advantage)", "training step", "average precision")


def _draw_advantage(axes, records: list[dict], history: Sequence[dict]) -> None:
    """The reward minus what uniform weights would have earned, above zero the policy is worth its cost; on the batches
    that train, and with its standard error on those of classes that do not."""
    held = [row for row in history if "step" in row and row.get("held_out_advantage") is not None]
    step, value = _curve(records, "advantage_over_uniform", "step")
    if len(step) or not held:
        _draw_noisy(axes, step, value, BLUE, "batches that train")
    if held:
        axes.errorbar([row["step"] for row in held], [row["held_out_advantage"] for row in held],
                      [row.get("held_out_advantage_error") or 0 for row in held], color=ORANGE, fmt="o-",
                      markersize=3.5, linewidth=1.2, capsize=2, label="classes held out")
        axes.legend(fontsize=7.5, frameon=False, loc="best")
    if axes.has_data():
        axes.axhline(0, color=INK, linewidth=0.9)
    _label(axes, "Advantage over uniform weights", "training step", "average precision")


def _draw_correlation(axes, records: list[dict]) -> None:
    """How an image's largest weight goes with its AP: below zero the weight is where retrieval is bad."""
    for sign, colour in (("positive", BLUE), ("negative", ORANGE)):
        step, value = _curve(records, f"correlation_{sign}", "step")
        if len(step):
            _draw_noisy(axes, step, value, colour, f"{sign} pairs")
    if axes.has_data():
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.legend(fontsize=7.5, frameon=False, loc="best")
    else:
        _draw_nothing(axes)
    _label(axes, "Largest weight with AP", "training step", "correlation over images")


def _draw_noisy(axes, step: np.ndarray, value: np.ndarray, colour: str, label: str | None) -> None:
    """The values faintly, their running mean on top."""
    if not len(step):
        _draw_nothing(axes)
        return
    axes.plot(step, value, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(step, _smooth(value), color=colour, linewidth=1.8, label=label, marker="o" if len(step) == 1 else None)
    if len(step) == 1:
        axes.set_xlim(step[0] - 1, step[0] + 1)


def _smooth(value: np.ndarray) -> np.ndarray:
    """Running mean over a tenth of the records, fewer at the ends."""
    half = len(value) // 20
    total = np.concatenate([[0.0], value.cumsum()])                                # (T + 1,)
    place = np.arange(len(value))
    first, last = np.maximum(place - half, 0), np.minimum(place + half + 1, len(value))
    return (total[last] - total[first]) / (last - first)                           # (T,)


# ------------------------------------------------------------------------------------------------- shared


def _figure(width: float, height: float, title: str):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.05)
    figure.suptitle(title, x=0.012, ha="left", fontsize=13, weight="bold", color=INK)
    return figure


def _label(axes, title: str, x: str, y: str, grid: bool = True) -> None:
    """Title on the left, axis labels, and no more lines than are read."""
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.set_xlabel(x, fontsize=8, color=QUIET)
    axes.set_ylabel(y, fontsize=8, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if grid and axes.has_data():
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)


def _draw_nothing(axes) -> None:
    axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
    axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", fontsize=8, color=QUIET)
