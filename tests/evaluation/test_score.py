"""Scores of saved embeddings: those of `evaluate`, for any labels, and errors in one sentence."""
import json

import numpy as np
import pytest
import torch

import main
from evaluation import evaluate, score
from evaluation.embed import command as embed
from tests.evaluation.sets import clusters, generator
from utilities.labels import Line

METRICS = ["e_recall@1", "e_recall@4", "mAP_r", "mAP", "nmi"]


def write(folder, name, rows, labels):
    """The files of some embeddings, as arguments."""
    np.save(folder / f"{name}.npy", rows)
    lines = ["path,label"] + [f"{i}.png,{label}" for i, label in enumerate(labels)]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return [str(folder / f"{name}.npy"), str(folder / f"{name}.csv")]


def scores(folder, arguments):
    """The metrics that the command writes, all digits."""
    out = folder / "scores.json"
    assert score.main([*arguments, "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("spell", [str, "class {:02d}".format])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_those_of_evaluate_to_the_last_digit(tmp_path, capsys, spell, dtype):
    rows, label = clusters(0, classes=12, per_class=5)
    order = torch.randperm(len(rows), generator=generator(0))
    rows = rows[order]
    label = label[order]
    files = write(tmp_path, "set", rows.numpy().astype(dtype), map(spell, label.tolist()))
    expected = evaluate(rows, label, METRICS)
    arguments = [*files, "--metrics", *METRICS]
    assert scores(tmp_path, arguments) == expected
    assert f"{100 * expected['mAP_r']:.1f}" in capsys.readouterr().out
    options = ["--search_backend", "torch", "--eval_block", "7"]
    assert scores(tmp_path, [*arguments, *options]) == expected


def test_a_run_its_checkpoint_and_its_saved_embeddings_give_the_same_numbers(tmp_path):
    assert main.main(["--source_path", str(tmp_path), "--glyphs_classes", "8",
                      "--glyphs_images_per_class", "12", "--glyphs_size", "16",
                      "--image_size", "16", "--bs", "16", "--n_epochs", "1", "--embed_dim", "64",
                      "--save_path", str(tmp_path / "runs"), "--savename", "a",
                      "--no-figures"]) == 0
    run = tmp_path / "runs" / "glyphs" / "a"
    images = next(tmp_path.glob("glyphs-*"))
    final = json.loads((run / "result.json").read_text())["final"]
    assert len(final) == 7
    checkpoint = str(run / "last.pt")
    again = tmp_path / "again.json"
    assert main.main(["--evaluate_only", "--checkpoint", checkpoint, "--json", str(again)]) == 0
    assert json.loads(again.read_text()) == final
    out = tmp_path / "out"
    command = [checkpoint, str(images), "--split", "test", "--out", str(out)]
    assert embed.main(command) == 0
    assert scores(tmp_path, [str(out / "embeddings.npy"), str(out / "labels.csv")]) == final


@pytest.mark.parametrize(("tables", "expected"), [
    ([["10", "2"], ["2", "7"]], [[2, 0], [0, 1]]),
    ([["0 bee", "1 cat"], ["0 ant", "1 bee"]], [[1, 2], [0, 1]]),
    ([["0 bee", "1 cat"]], [[0, 1]]),
])
def test_two_sets_are_numbered_together(tables, expected):
    """By the column class, where both have it; of one set by label."""
    lines = []
    for table in tables:
        cells = [text.split() for text in table]
        lines.append([Line(dict(zip(("label", "class"), cell))) for cell in cells])
    assert [part.tolist() for part in score.numbered(lines)] == expected


def test_gallery_set(tmp_path):
    rows, label = clusters(0, classes=5, per_class=8)
    query = write(tmp_path, "query", rows[::2].numpy(), label[::2].tolist())
    gallery = write(tmp_path, "gallery", rows[1::2].numpy(), label[1::2].tolist())
    found = scores(tmp_path, [*query, "--gallery", *gallery, "--metrics", "e_recall@1"])
    near = (rows[::2].double() @ rows[1::2].double().T).argmax(1)
    hit = label[1::2][near] == label[::2]
    assert found == {"e_recall@1": hit.double().mean().item()}


def test_queries_inside_the_gallery_are_counted(tmp_path, capsys):
    rows, label = clusters(0, classes=5, per_class=8)
    query = write(tmp_path, "query", rows[:12].numpy(), label[:12].tolist())
    gallery = write(tmp_path, "gallery", rows[9:].numpy(), label[9:].tolist())
    scores(tmp_path, [*query, "--gallery", *gallery, "--metrics", "e_recall@1"])
    assert "3 of 12 queries are rows of the gallery too" in capsys.readouterr().err


@pytest.mark.parametrize("apart", [False, True])
def test_metrics_with_context_are_added(tmp_path, apart):
    rows, label = clusters(0, classes=5, per_class=8)
    arguments = write(tmp_path, "query", rows[::2].numpy(), label[::2].tolist())
    gallery = {}
    if apart:
        gallery = {"gallery": rows[1::2], "gallery_labels": label[1::2]}
        arguments += ["--gallery", *write(tmp_path, "gallery", rows[1::2].numpy(),
                                          label[1::2].tolist())]
    arguments += ["--metrics", "e_recall@1", "mAP_r"]
    found = scores(tmp_path, [*arguments, "--eval_context", "3", "--eval_context_power", "2"])
    wanted = evaluate(rows[::2], label[::2], ["e_recall@1", "mAP_r"], context=3,
                      context_power=2.0, **gallery)
    assert found == wanted
    assert list(found) == ["e_recall@1", "mAP_r", "ctx_e_recall@1", "ctx_mAP_r"]
    assert scores(tmp_path, [*arguments, "--eval_context", "0"]) == scores(tmp_path, arguments)
    # the power is 3 unless it is given
    cubed = evaluate(rows[::2], label[::2], ["mAP_r"], context=3, context_power=3.0, **gallery)
    assert scores(tmp_path, [*arguments, "--eval_context", "3"])["ctx_mAP_r"] == cubed["ctx_mAP_r"]


@pytest.mark.parametrize("flags, words", [
    (["--eval_context", "4"], "4 images"),
    (["--eval_context", "-1"], "at least 0"),
    (["--eval_context", "2", "--eval_context_power", "-1"], "at least 0"),
    (["--eval_context_power", "3"], "no effect with --eval_context 0"),
])
def test_contexts_that_there_cannot_be(tmp_path, capsys, flags, words):
    files = write(tmp_path, "set", np.eye(4), [0, 0, 1, 1])
    try:
        code = score.main([*files, *flags])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert words in capsys.readouterr().err


def refused(folder, capsys, code):
    """The sentence with which the files are refused."""
    files = [str(folder / "e.npy"), str(folder / "l.csv")]
    assert score.main([*files, "--metrics", "e_recall@1"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("evaluation.score: ")
    return lines[0]


@pytest.mark.parametrize(("rows", "words"), [
    (np.array([[{}]], dtype=object), "not a readable .npy"),
    (np.zeros(4), "shape (N, D)"),
    (np.zeros((4, 0)), "shape (N, D)"),
    (np.zeros((2, 2), dtype=complex), "complex"),
])
def test_refused_embeddings(tmp_path, capsys, rows, words):
    np.save(tmp_path / "e.npy", rows, allow_pickle=True)
    (tmp_path / "l.csv").write_text("label\n0\n")
    assert words in refused(tmp_path, capsys, 2)


def test_embeddings_that_are_no_array(tmp_path, capsys):
    assert "no such file" in refused(tmp_path, capsys, 2)
    (tmp_path / "e.npy").write_text("text")
    assert "not a readable .npy" in refused(tmp_path, capsys, 2)


@pytest.mark.parametrize(("table", "words"), [
    (None, "no such file"),
    (b"label\n0\n0\n0\n", "3 lines for 4 rows"),
    (b"path,class\na,b\na,b\na,b\na,b\n", "no column label"),
    (b"path,label\na,\na,\na,\na,\n", "line 2: the label is empty"),
    (b"label\n0\n\xff\n", "UTF-8"),
    (b"label,class\n0,a\n1,b\n0,c\n1,b\n", "line 4: label '0' has the class 'c' here and 'a' in line 2"),
])
def test_refused_tables(tmp_path, capsys, table, words):
    np.save(tmp_path / "e.npy", np.ones((4, 2)))
    if table is not None:
        (tmp_path / "l.csv").write_bytes(table)
    assert words in refused(tmp_path, capsys, 2)


def test_the_row_that_is_not_finite_is_named(tmp_path, capsys):
    rows = np.ones((4, 2))
    rows[2, 1] = np.nan
    np.save(tmp_path / "e.npy", rows)
    (tmp_path / "l.csv").write_text("label\n0\n0\n1\n1\n")
    assert "e.npy: row 2 (counted from 0) holds NaN" in refused(tmp_path, capsys, 2)


def test_a_file_that_is_read_is_not_written(tmp_path, capsys):
    files = write(tmp_path, "set", np.ones((4, 2)), "0011")
    for path in [*files, str(tmp_path / "embeddings.json")]:
        assert score.main([*files, "--out", path]) == 2
        assert "is a file that this command reads" in capsys.readouterr().err


@pytest.mark.parametrize("out, words", [("none/x.json", "there is no folder"), ("", "is a folder")])
def test_a_place_for_no_file_is_refused_before_the_work(tmp_path, capsys, monkeypatch, out, words):
    files = write(tmp_path, "set", np.ones((4, 2)), "0011")
    monkeypatch.setattr(score, "evaluate", None)
    assert score.main([*files, "--out", str(tmp_path / out)]) == 2
    assert words in capsys.readouterr().err


def test_a_gallery_of_other_classes_is_named(tmp_path, capsys):
    files = write(tmp_path, "set", np.ones((4, 2)), "0011")
    others = write(tmp_path, "gallery", np.eye(2), "23")
    assert score.main([*files, "--gallery", *others]) == 1
    assert "no class of the queries is in the gallery" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "labels", "words"), [
    (np.ones((4, 2)), "0123", "single"),
    (np.ones((0, 2)), "", "0 images"),
])
def test_sets_without_a_score(tmp_path, capsys, rows, labels, words):
    np.save(tmp_path / "e.npy", rows)
    (tmp_path / "l.csv").write_text("\n".join(["label", *labels]) + "\n")
    assert words in refused(tmp_path, capsys, 1)


def test_wrong_metric_is_refused_before_anything_is_read(capsys):
    assert score.main(["absent.npy", "absent.csv", "--metrics", "recall@1"]) == 2
    assert "e_recall@" in capsys.readouterr().err
