"""progress.png, policy.png and memory.png: what is drawn follows from the records, whatever they lack."""
import math
import random

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from PIL import Image

from evaluation.report import figures, plot_context, plot_policy, plot_progress, policy
from evaluation.report.context import CONTEXT

METRICS = ["e_recall@1", "mAP_r"]
B_P = [-5, 0, 5, 10]
B_N = [0, 5, 10, 20, 40]
ADVANTAGE = "Advantage over uniform weights"
ENTROPY = "Entropy (dashed: uniform choice)"
CORRELATION = "Largest weight of an image and its AP"
POSITIVE = "Probability of each action, positive pairs"
NEGATIVE = "Probability of each action, negative pairs"
REWARD = "Reward (band: spread of the advantage)"


@pytest.fixture
def drawn(monkeypatch):
    """The panels of each figure that was saved, by title."""
    figures = []
    save = Figure.savefig

    def remember(self, *args, **kwargs):
        panels = {axes.get_title(loc="left"): axes for axes in self.get_axes()}
        panels.pop("", None)  # colour bars
        figures.append(panels)
        # quicker, and all that is asked of the file is that it is one
        return save(self, *args, dpi=60, **kwargs)
    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


@pytest.fixture
def path(tmp_path):
    """The picture to write."""
    return tmp_path / "picture.png"


def history(epochs):
    """Rows of metrics.csv; the first is of the untrained network, which has no losses."""
    rows = [{"epoch": 0, "e_recall@1": 0.0, "mAP_r": 0.0}]
    for epoch in range(1, epochs):
        rows.append({
            "epoch": epoch,
            "loss": 2 / (epoch + 1),
            "metric": 1 / (epoch + 1),
            "metric_memory": 0.5,
            "memory_nll": 3 - epoch,
            "policy": 0.01 * epoch,
            "e_recall@1": 0.1 * epoch,
            "mAP_r": 0.05 * epoch,
        })
    return rows


def records(number):
    """Logged steps of a policy."""
    return [{
        "step": 10 * t,
        "epoch": t // 3,
        "reward": 0.3 + 0.01 * t,
        "advantage_spread": 0.02,
        "advantage_over_uniform": 0.001 * t,
        "entropy_positive": 1.2,
        "entropy_negative": 1.5,
        "correlation_positive": -0.01 * t,
        "correlation_negative": 0.3 if t % 2 else None,
        "probability_positive": [0.1, 0.2, 0.3, 0.4],
        "probability_negative": [0.2] * 5,
    } for t in range(number)]


def same(epochs, **values):
    """Rows with these values in every epoch."""
    return [{"epoch": epoch} | values for epoch in range(epochs)]


def curves(axes):
    """The values of the lines of a panel, by label."""
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def overlapping(axes):
    """Whether any two texts of a panel overlap."""
    boxes = [text.get_window_extent() for text in axes.texts]
    return any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def is_readable(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).std() > 1 and min(image.size) > 100


# -------------------------------------------------------------------------------------- progress


def test_progress_draws_every_term_and_metric(drawn, path):
    plot_progress(history(6), METRICS, path)
    (panels,) = drawn
    assert list(panels) == ["Loss", "Memory NLL", "Policy loss", *METRICS]
    assert list(curves(panels["Loss"])) == ["total", "metric", "metric, decoded context"]
    recall = panels["e_recall@1"]
    assert list(recall.lines[0].get_xdata()) == [0, 1, 2, 3, 4, 5]
    assert curves(recall)["e_recall@1"] == pytest.approx([0, 10, 20, 30, 40, 50])
    assert texts(recall) == ["50.0"] and texts(panels["Memory NLL"]) == ["-2.00"]
    assert recall.get_ylabel() == "percent" and recall.get_xlabel() == "epoch"
    assert is_readable(path)


def test_progress_skips_what_a_row_lacks(drawn, path):
    rows = history(5)
    for row in rows[1::2]:
        del row["mAP_r"]
    rows[3]["loss"] = math.nan
    plot_progress(rows, [*METRICS, "absent"], path)
    (panels,) = drawn
    assert list(panels["mAP_r"].lines[0].get_xdata()) == [0, 2, 4] and "absent" not in panels
    assert list(panels["Loss"].lines[0].get_xdata()) == [1, 2, 4]


@pytest.mark.parametrize("rows,titles", [
    (history(1), METRICS),
    ([], []),
    ([{"epoch": 0}], []),
    ([{"epoch": 0, "nmi": None}], []),
])
def test_progress_of_little_is_a_picture_too(drawn, path, rows, titles):
    plot_progress(rows, METRICS, path)
    assert list(drawn[0]) == titles and is_readable(path)


def test_progress_hides_a_term_equal_to_the_total(drawn, path):
    plot_progress(same(3, loss=1.0, metric=1.0), [], path)
    assert list(curves(drawn[0]["Loss"])) == ["total"]


def test_progress_shows_validation(drawn, path):
    plot_progress(same(3, nmi=0.5, val_nmi=0.4), ["nmi"], path)
    assert list(curves(drawn[0]["nmi"])) == ["nmi", "nmi (validation)"]


def test_progress_draws_the_terms_of_past_batches_and_of_proxies(drawn, path):
    plot_progress(same(3, loss=3.0, metric=1.0, metric_xbm=0.8, metric_proxies=1.2), [], path)
    assert curves(drawn[0]["Loss"]) == {
        "total": [3.0] * 3,
        "metric": [1.0] * 3,
        "metric, past batches": [0.8] * 3,
        "metric, proxies of classes": [1.2] * 3,
    }


def test_last_values_do_not_overlap(drawn, path):
    rows = same(4, metric=1.001, metric_memory=1.0)
    for row in rows:
        row["loss"] = 5.0 - row["epoch"]
    plot_progress(rows, [], path)
    axes = drawn[0]["Loss"]
    assert len(axes.texts) == 3 and not overlapping(axes)


def test_last_values_at_the_top_stay_within_the_panel(drawn, path):
    rows = same(4, metric=0.02, metric_memory=0.01, metric_proxies=0.0)
    for row in rows:
        row["loss"] = -2.0 * row["epoch"]
    plot_progress(rows, [], path)
    axes = drawn[0]["Loss"]
    assert texts(axes) == ["-6.00", "0.00", "0.0100", "0.0200"]
    # a text above the panel would not be drawn
    assert all(text.xy[1] <= axes.get_ylim()[1] for text in axes.texts)
    assert not overlapping(axes)


# ---------------------------------------------------------------------------------------- policy


def test_policy_maps(drawn, path):
    plot_policy(records(30), path, B_P, B_N)
    (panels,) = drawn
    assert list(panels) == [POSITIVE, NEGATIVE, ENTROPY, REWARD, ADVANTAGE, CORRELATION]
    axes = panels[POSITIVE]
    assert axes.get_ylabel() == "action b_p"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["-5", "0", "5", "10"]
    probability = axes.collections[0].get_array()
    assert probability.shape == (4, 30) and (probability[3] == 0.4).all()
    # -5 * .1 + 0 * .2 + 5 * .3 + 10 * .4 = 5, which is row 2 of the map
    assert list(axes.lines[-1].get_ydata()) == pytest.approx([2.0] * 30)
    assert "expected value, last 5" in legend(axes)[0]
    assert is_readable(path)


def test_policy_curves(drawn, path):
    plot_policy(records(30), path, B_P, B_N)
    (panels,) = drawn
    dashed = [line.get_ydata()[0] for line in panels[ENTROPY].lines if line.is_dashed()]
    assert dashed == pytest.approx([math.log(4), math.log(5)])
    assert list(panels[ADVANTAGE].lines[-1].get_ydata()) == [0, 0]
    axes = panels[CORRELATION]
    assert legend(axes) == ["positive pairs", "negative pairs"]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([-0.01 * t for t in range(30)])
    # None where the correlation is undefined
    assert list(axes.lines[2].get_xdata()) == [10 * t for t in range(30) if t % 2]


@pytest.mark.parametrize("number", [0, 3])
def test_policy_shows_its_gain_on_held_out_classes(drawn, path, number):
    rows = [
        {"epoch": 0, "step": 0, "held_out_advantage": -0.01, "held_out_advantage_error": 0.002},
        {"epoch": 1},
        {"epoch": 2, "step": 20, "held_out_advantage": 0.03, "held_out_advantage_error": None},
    ]
    plot_policy(records(number), path, B_P, B_N, history=rows)
    axes = drawn[0][ADVANTAGE]
    held_out = axes.containers[0]
    line, _, (bars,) = held_out
    assert held_out.get_label() == "held-out classes"
    assert list(line.get_xdata()) == [0, 20] and list(line.get_ydata()) == [-0.01, 0.03]
    lengths = [end[1] - start[1] for start, end in bars.get_segments()]
    assert lengths == pytest.approx([0.004, 0])
    assert "not recorded" not in texts(axes)


def test_policy_with_long_grids_and_missing_parts(drawn, path):
    grid = [a / 64 for a in range(1, 65)]
    rows = records(5)
    for row in rows:
        del row["advantage_over_uniform"]
        del row["advantage_spread"]
        row["probability_positive"] = [1 / 64] * 64
        row["probability_negative"] = [1 / 64] * 64
    plot_policy(rows, path, grid, grid, names=("phi_p", "phi_n"))
    (panels,) = drawn
    ticks = [tick.get_text() for tick in panels[POSITIVE].get_yticklabels()]
    assert len(ticks) <= policy.LABELS and ticks[0] == "0.016" and ticks[-1] == "1.000"
    assert texts(panels[ADVANTAGE]) == ["not recorded"]


@pytest.mark.parametrize("rows", [records(1), [], [{"step": 0}]])
def test_policy_of_little_is_a_picture_too(drawn, path, rows):
    plot_policy(rows, path, B_P, B_N)
    assert is_readable(path)


def test_negative_entropies_are_within_the_panel(drawn, path):
    rows = [row | {"entropy_positive": -2.0} for row in records(3)]
    plot_policy(rows, path, B_P, B_N)
    low, high = drawn[0][ENTROPY].get_ylim()
    assert low < -2 and high > math.log(5)


def test_descending_grid_gets_no_expectation_line(drawn, path):
    plot_policy(records(3), path, B_P[::-1], B_N)
    assert not drawn[0][POSITIVE].lines


def test_running_mean():
    assert figures.smooth(np.arange(5.0)).tolist() == [0, 1, 2, 3, 4]
    value = np.random.RandomState(0).randn(60)
    mean = figures.smooth(value)
    assert mean[30] == pytest.approx(value[27:34].mean())
    assert mean[0] == pytest.approx(value[:4].mean())


def test_cells_around_uneven_steps():
    assert policy._edges(np.array([0.0, 10.0, 40.0])).tolist() == [-5, 5, 25, 55]
    assert policy._edges(np.array([7.0])).tolist() == [6, 8]


def test_nothing_global_changes(path):
    def state():
        return dict(rcParams), random.getstate(), np.random.get_state()[1].tolist()
    before = state()
    plot_progress(history(3), METRICS, path)
    plot_policy(records(3), path, B_P, B_N)
    assert state() == before


# --------------------------------------------------------------------------------------- context

def test_context_curves(drawn, path):
    steps = [{"step": 10 * t, "context_std": 0.1 * t, "context_r2": -5 + t} for t in range(1, 4)]
    rows = [{"step": 0}, {"step": 20, "held_out_context_std": 0.5, "held_out_context_r2": -400}]
    plot_context(steps, rows, path)
    [panels] = drawn
    assert list(panels) == list(CONTEXT.values())
    spread = curves(panels["Standard deviation over images"])
    assert spread["training batches"] == pytest.approx([0.1, 0.2, 0.3])
    assert spread["held-out classes"] == [0.5]
    r2 = curves(panels["R² of the decoded context (from −1)"])
    assert r2["training batches"] == [-1] * 3 and r2["held-out classes"] == [-1]
    assert texts(panels["Share of the variance between classes"]) == ["not recorded"]
    assert is_readable(path)


@pytest.mark.parametrize("steps, rows", [([], []), ([], [{"step": 0, "held_out_context_std": 0.5}])])
def test_context_of_little_is_a_picture_too(path, steps, rows):
    plot_context(steps, rows, path)
    assert is_readable(path)
