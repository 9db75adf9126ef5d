"""Scores of saved embeddings: those of `evaluate`, for any numbering of the labels, and errors in one sentence."""
import json

import numpy as np
import pytest
import torch

import main
from evaluation import evaluate, score
from evaluation.embed import command as embed
from tests.evaluation.sets import clusters

METRICS = ["e_recall@1", "e_recall@4", "mAP_r", "mAP", "nmi"]


def write(folder, name, rows, labels, classes=None):
    np.save(folder / f"{name}.npy", rows)
    header = "path,label" + (",class" if classes else "")
    lines = [f"{i}.png,{label}" + (f",{classes[i]}" if classes else "") for i, label in enumerate(labels)]
    (folder / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    return str(folder / f"{name}.npy"), str(folder / f"{name}.csv")


@pytest.mark.parametrize("spell", [str, lambda label: f"class {label:02d}"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_those_of_evaluate_to_the_last_digit(tmp_path, capsys, spell, dtype):
    rows, label = clusters(0, classes=12, per_class=5)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    rows, label = rows[order], label[order]
    files = write(tmp_path, "set", rows.numpy().astype(dtype), [spell(i) for i in label.tolist()])
    assert score.main([*files, "--metrics", *METRICS, "--out", str(tmp_path / "out.json")]) == 0
    expected = evaluate(rows, label, METRICS)
    assert json.loads((tmp_path / "out.json").read_text()) == expected
    assert f"{100 * expected['mAP_r']:.1f}" in capsys.readouterr().out
    assert score.main([*files, "--metrics", *METRICS, "--search_backend", "torch", "--eval_block", "7",
                       "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text()) == expected


def test_a_run_its_checkpoint_and_its_saved_embeddings_give_the_same_numbers_to_the_last_digit(tmp_path):
    assert main.main(["--source_path", str(tmp_path), "--glyphs_classes", "8", "--glyphs_images_per_class", "12",
                      "--glyphs_size", "16", "--image_size", "16", "--bs", "16", "--n_epochs", "1", "--embed_dim", "64",
                      "--save_path", str(tmp_path / "runs"), "--savename", "a", "--map_images", "0"]) == 0
    made, images = tmp_path / "runs" / "glyphs" / "a", next(tmp_path.glob("glyphs-*"))
    final = json.loads((made / "result.json").read_text())["final"]
    assert len(final) == 7
    assert main.main(["--evaluate_only", "--checkpoint", str(made / "last.pt"), "--json", str(tmp_path / "a")]) == 0
    assert json.loads((tmp_path / "a").read_text()) == final
    out = tmp_path / "out"
    assert embed.main([str(made / "last.pt"), str(images), "--split", "test", "--out", str(out)]) == 0
    assert score.main([str(out / "embeddings.npy"), str(out / "labels.csv"), "--out", str(tmp_path / "b.json")]) == 0
    assert json.loads((tmp_path / "b.json").read_text()) == final


def test_two_sets_are_numbered_together():
    by_label = score.numbered([[{"label": "10"}, {"label": "2"}], [{"label": "2"}, {"label": "7"}]])
    assert [part.tolist() for part in by_label] == [[2, 0], [0, 1]]
    named = [[{"label": "0", "class": "bee"}, {"label": "1", "class": "cat"}],
             [{"label": "0", "class": "ant"}, {"label": "1", "class": "bee"}]]
    assert [part.tolist() for part in score.numbered(named)] == [[1, 2], [0, 1]]
    assert [part.tolist() for part in score.numbered(named[:1])] == [[0, 1]]


def test_gallery_set(tmp_path):
    rows, label = clusters(0, classes=5, per_class=8)
    query, gallery = torch.arange(40)[::2], torch.arange(40)[1::2]
    first = write(tmp_path, "query", rows[query].numpy(), label[query].tolist())
    second = write(tmp_path, "gallery", rows[gallery].numpy(), label[gallery].tolist())
    assert score.main([*first, "--gallery", *second, "--metrics", "e_recall@1", "--out", str(tmp_path / "o.json")]) == 0
    near = (rows[query].double() @ rows[gallery].double().T).argmax(1)
    expected = (label[gallery][near] == label[query]).double().mean().item()
    assert json.loads((tmp_path / "o.json").read_text())["e_recall@1"] == expected


@pytest.mark.parametrize("embeddings,table,code,words", [
    (None, "label\n0\n", 2, "no such file"), ("text", "label\n0\n", 2, "not a readable .npy"),
    (np.array([[{}]], dtype=object), "label\n0\n", 2, "not a readable .npy"),
    (np.zeros(4), "label\n" + "0\n" * 4, 2, "shape (N, D)"),
    (np.zeros((2, 2), dtype=complex), "label\n0\n0\n", 2, "complex"),
    (np.ones((4, 2)), None, 2, "no such file"), (np.ones((4, 2)), "label\n0\n0\n0\n", 2, "3 lines for 4 rows"),
    (np.ones((4, 2)), "path,class\n" + "a,b\n" * 4, 2, "no column label"),
    (np.ones((4, 2)), "path,label\n" + "a,\n" * 4, 2, "no column label"),
    (np.full((4, 2), np.nan), "label\n0\n0\n1\n1\n", 1, "NaN"), (np.ones((4, 2)), "label\n0\n1\n2\n3\n", 1, "single"),
    (np.ones((0, 2)), "label\n", 1, "0 images"), (np.ones((4, 2)), "label\n0\n\xff\n".encode("latin1"), 2, "UTF-8"),
])
def test_what_cannot_be_scored_is_one_sentence(tmp_path, capsys, embeddings, table, code, words):
    if isinstance(embeddings, str):
        (tmp_path / "e.npy").write_text(embeddings)
    elif embeddings is not None:
        np.save(tmp_path / "e.npy", embeddings, allow_pickle=True)
    if table is not None:
        (tmp_path / "l.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    assert score.main([str(tmp_path / "e.npy"), str(tmp_path / "l.csv"), "--metrics", "e_recall@1"]) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("evaluation.score: ") and words in said[0]


def test_wrong_metric_is_refused_before_anything_is_read(capsys):
    assert score.main(["absent.npy", "absent.csv", "--metrics", "recall@1"]) == 2
    assert "e_recall@" in capsys.readouterr().err
