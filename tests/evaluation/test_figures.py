"""The pictures of a run: what is drawn follows from the records, whatever they lack."""
import math
import random

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from PIL import Image

from evaluation.report import plot_policy, plot_progress, policy

METRICS = ["e_recall@1", "mAP_r"]
B_P, B_N = [-5, 0, 5, 10], [0, 5, 10, 20, 40]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], Figure.savefig

    def remember(self, *args, **kwargs):
        figures.append(self)
        return save(self, *args, dpi=60, **kwargs)  # quicker, and all that is asked of the file is that it is one
    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def panels(figure) -> dict:
    return {axes.get_title(loc="left"): axes for axes in figure.get_axes() if axes.get_title(loc="left")}


def history(epochs: int) -> list[dict]:
    rows = [{"epoch": e, "loss": 2 / (e + 1), "metric": 1 / (e + 1), "metric_memory": 0.5, "memory_nll": 3 - e,
             "policy": 0.01 * e, "e_recall@1": 0.1 * e, "mAP_r": 0.05 * e} for e in range(epochs)]
    for key in ("loss", "metric", "metric_memory", "memory_nll", "policy"):
        rows[0].pop(key)
    return rows


def records(number: int) -> list[dict]:
    return [{"step": 10 * t, "epoch": t // 3, "reward": 0.3 + 0.01 * t, "advantage_spread": 0.02,
             "advantage_over_uniform": 0.001 * t, "entropy_positive": 1.2, "entropy_negative": 1.5,
             "correlation_positive": -0.01 * t, "correlation_negative": 0.3 if t % 2 else None,
             "probability_positive": [0.1, 0.2, 0.3, 0.4], "probability_negative": [0.2] * 5} for t in range(number)]


def readable(path) -> bool:
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).std() > 1 and min(image.size) > 100


def test_progress_draws_every_term_and_metric(drawn, tmp_path):
    plot_progress(history(6), METRICS, tmp_path / "progress.png")
    found = panels(drawn[0])
    assert list(found) == ["loss", "memory NLL", "policy loss", *METRICS]
    assert [line.get_label() for line in found["loss"].lines] == ["total", "metric", "metric, decoded context"]
    line = found["e_recall@1"].lines[0]
    assert line.get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
    assert line.get_ydata().tolist() == pytest.approx([0, 10, 20, 30, 40, 50])
    assert [text.get_text() for text in found["e_recall@1"].texts] == ["50.0"]
    assert [text.get_text() for text in found["memory NLL"].texts] == ["-2.00"]
    assert found["mAP_r"].get_ylabel() == "percent" and found["mAP_r"].get_xlabel() == "epoch"
    assert readable(tmp_path / "progress.png")


def test_progress_of_what_little_there_is(drawn, tmp_path):
    gaps = history(5)
    for row in gaps[1::2]:
        del row["mAP_r"]
    gaps[3]["loss"] = math.nan
    plot_progress(gaps, [*METRICS, "absent"], tmp_path / "gaps.png")
    found = panels(drawn[0])
    assert found["mAP_r"].lines[0].get_xdata().tolist() == [0, 2, 4] and "absent" not in found
    assert found["loss"].lines[0].get_xdata().tolist() == [1, 2, 4]
    for number, rows in enumerate((history(1), [], [{"epoch": 0}], [{"epoch": 0, "nmi": None}])):
        plot_progress(rows, METRICS, tmp_path / f"{number}.png")
        assert readable(tmp_path / f"{number}.png")
    assert list(panels(drawn[1])) == METRICS and not panels(drawn[2])


def test_progress_shows_validation_and_hides_a_term_equal_to_the_total(drawn, tmp_path):
    rows = [{"epoch": e, "loss": 1.0 + e, "metric": 1.0 + e, "nmi": 0.5, "val_nmi": 0.4} for e in range(3)]
    plot_progress(rows, ["nmi"], tmp_path / "p.png")
    found = panels(drawn[0])
    assert len(found["loss"].lines) == 1
    assert [line.get_label() for line in found["nmi"].lines] == ["nmi", "nmi (validation)"]


def test_progress_draws_the_terms_of_past_batches_and_of_proxies(drawn, tmp_path):
    rows = [{"epoch": e, "loss": 3.0, "metric": 1.0, "metric_xbm": 0.8, "metric_proxies": 1.2} for e in range(3)]
    plot_progress(rows, [], tmp_path / "p.png")
    lines = {line.get_label(): line.get_ydata().tolist() for line in panels(drawn[0])["loss"].lines}
    assert lines == {"total": [3.0] * 3, "metric": [1.0] * 3, "metric, past batches": [0.8] * 3,
                     "metric, proxies of classes": [1.2] * 3}


def test_last_values_do_not_overlap(drawn, tmp_path):
    rows = [{"epoch": e, "loss": 5.0 - e, "metric": 1.001, "metric_memory": 1.0} for e in range(4)]
    plot_progress(rows, [], tmp_path / "p.png")
    axes = panels(drawn[0])["loss"]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 3 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_last_values_at_the_top_stay_within_the_panel(drawn, tmp_path):
    rows = [{"epoch": e, "loss": -2.0 * e, "metric": 0.02, "metric_memory": 0.01, "metric_proxies": 0.0}
            for e in range(4)]
    plot_progress(rows, [], tmp_path / "p.png")
    axes = panels(drawn[0])["loss"]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["-6.00", "0.00", "0.0100", "0.0200"]
    assert all(text.xy[1] <= axes.get_ylim()[1] for text in axes.texts)            # those above are not drawn
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_policy_maps_and_curves(drawn, tmp_path):
    plot_policy(records(30), tmp_path / "policy.png", B_P, B_N)
    found = panels(drawn[0])
    assert list(found) == ["Weights of the positive pairs", "Weights of the negative pairs",
                           "Entropy (dashed: uniform choice)", "Reward (band: spread of the advantage)",
                           "Advantage over uniform weights", "Largest weight with AP"]
    positive = found["Weights of the positive pairs"]
    assert positive.get_ylabel() == "action b_p"
    assert [tick.get_text() for tick in positive.get_yticklabels()] == ["-5", "0", "5", "10"]
    assert positive.collections[0].get_array().shape == (4, 30)
    assert positive.collections[0].get_array()[3].tolist() == [0.4] * 30
    expected = -5 * 0.1 + 5 * 0.3 + 10 * 0.4
    assert positive.lines[-1].get_ydata() == pytest.approx([2.0] * 30) and expected == 5  # row 2 of the grid is 5
    assert "expected value, last 5" in positive.get_legend().get_texts()[0].get_text()
    dashed = [line.get_ydata()[0] for line in found["Entropy (dashed: uniform choice)"].lines if line.is_dashed()]
    assert dashed == pytest.approx([math.log(4), math.log(5)])
    zero = found["Advantage over uniform weights"].lines[-1]
    assert zero.get_ydata() == [0, 0]
    correlation = found["Largest weight with AP"]
    assert [text.get_text() for text in correlation.get_legend().get_texts()] == ["positive pairs", "negative pairs"]
    assert correlation.lines[0].get_ydata().tolist() == pytest.approx([-0.01 * t for t in range(30)])
    assert correlation.lines[2].get_xdata().tolist() == [10 * t for t in range(30) if t % 2]    # None where undefined
    assert readable(tmp_path / "policy.png")


def test_policy_shows_what_it_is_worth_on_held_out_classes(drawn, tmp_path):
    rows = [{"epoch": 0, "step": 0, "held_out_advantage": -0.01, "held_out_advantage_error": 0.002}, {"epoch": 1},
            {"epoch": 2, "step": 20, "held_out_advantage": 0.03, "held_out_advantage_error": None}]
    for number, some in enumerate((records(3), [])):
        plot_policy(some, tmp_path / f"{number}.png", B_P, B_N, history=rows)
        axes = panels(drawn[number])["Advantage over uniform weights"]
        held = axes.containers[0]
        assert held.get_label() == "held-out classes" and held[0].get_xdata().tolist() == [0, 20]
        assert held[0].get_ydata().tolist() == [-0.01, 0.03]
        assert [end[1] - start[1] for start, end in held[2][0].get_segments()] == pytest.approx([0.004, 0])
        assert not [text for text in axes.texts if text.get_text() == "not recorded"]


def test_policy_with_long_grids_and_missing_parts(drawn, tmp_path):
    long, rows = [a / 64 for a in range(1, 65)], records(5)
    for row in rows:
        del row["advantage_over_uniform"], row["advantage_spread"]
        row["probability_positive"] = [1 / 64] * 64
        row["probability_negative"] = [1 / 64] * 64
    plot_policy(rows, tmp_path / "p.png", long, long, names=("phi_p", "phi_n"))
    found = panels(drawn[0])
    ticks = found["Weights of the positive pairs"].get_yticklabels()
    assert len(ticks) <= policy.LABELS and ticks[0].get_text() == "0.0156" and ticks[-1].get_text() == "1"
    assert [t.get_text() for t in found["Advantage over uniform weights"].texts] == ["not recorded"]
    for number, some in enumerate((records(1), [], [{"step": 0}])):
        plot_policy(some, tmp_path / f"{number}.png", B_P, B_N)
        assert readable(tmp_path / f"{number}.png")


def test_descending_grid_gets_no_expectation_line(drawn, tmp_path):
    plot_policy(records(3), tmp_path / "p.png", B_P[::-1], B_N)
    assert not panels(drawn[0])["Weights of the positive pairs"].lines


def test_running_mean():
    assert policy._smooth(np.arange(5.0)).tolist() == [0, 1, 2, 3, 4]
    value = np.random.RandomState(0).randn(60)
    assert policy._smooth(value)[30] == pytest.approx(value[27:34].mean())
    assert policy._smooth(value)[0] == pytest.approx(value[:4].mean())


def test_cells_around_uneven_steps():
    assert policy._edges(np.array([0.0, 10.0, 40.0])).tolist() == [-5, 5, 25, 55]
    assert policy._edges(np.array([7.0])).tolist() == [6, 8]


def test_nothing_global_changes(tmp_path):
    random.seed(0)
    np.random.seed(0)
    before = dict(rcParams), random.getstate(), np.random.get_state()[1].tolist()
    plot_progress(history(3), METRICS, tmp_path / "a.png")
    plot_policy(records(3), tmp_path / "b.png", B_P, B_N)
    assert (dict(rcParams), random.getstate(), np.random.get_state()[1].tolist()) == before
