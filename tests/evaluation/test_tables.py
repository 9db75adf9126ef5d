"""Tables from run folders: rows, what is compared, what is refused, and what is said below."""
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.run_files import find_runs
from evaluation.tables.command import main

ROOT = Path(__file__).parents[2]


def make_run(root, name, seed, value, *, epochs=2, val=None, best=None, options=None, **flags):
    """The folder of a finished run with e_recall@1 = value and nmi = value / 2.

    best: {metric: (value, chosen on)}.
    """
    folder = root / name
    folder.mkdir(parents=True)
    flags = {"recipe": "default", "loss": "gpw", "dataset": "glyphs", "savename": name,
             "seed": seed, "save_path": str(root), "n_epochs": epochs, "lr": None} | flags
    write_json(folder / "options.json", {"flags": flags} | (options or {}))
    lines = ["epoch,step,val_e_recall@1"]
    for epoch in range(epochs + 1):
        validation = "" if not val else val - 0.1 if epoch == 1 else val
        lines.append(f"{epoch},{10 * epoch},{validation}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    entries = {}
    for metric, (best_value, chosen_on) in (best or {}).items():
        entries[metric] = {"epoch": 1, "value": best_value, "chosen_on": chosen_on,
                           "metrics": {"e_recall@1": best_value}}
    write_json(folder / "result.json", {
        "final": {"e_recall@1": value, "nmi": value / 2},
        "untrained": {"e_recall@1": 0.1, "nmi": 0.05},
        "best": entries,
        "steps": 10 * epochs,
    })
    return str(folder)


def write_json(path, content):
    path.write_text(json.dumps(content))


def seeds(root, name, values, **kwargs):
    return [make_run(root, f"{name}-s{seed}", seed, value, **kwargs)
            for seed, value in values.items()]


def cells(text):
    """The lines of the table, and the notes below it."""
    lines = text.strip().splitlines()
    table = []
    for line in lines:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table, [line.removeprefix("* ") for line in lines if line.startswith("* ")]


def shown(capsys, *argv):
    assert main([str(word) for word in argv]) == 0
    return cells(capsys.readouterr().out)


def refused(capsys, *argv):
    assert main([str(word) for word in argv]) == 2
    return capsys.readouterr().err


def has_note(notes, beginning):
    return any(note.startswith(beginning) for note in notes)


# ------------------------------------------------------------ rows


@pytest.mark.parametrize("flag", ["--metric", "--metrics"])
def test_seeds_become_one_row_and_other_flags_another(tmp_path, capsys, flag):
    runs = seeds(tmp_path, "a", {1: 0.5, 2: 0.7})
    runs.append(make_run(tmp_path, "b", 1, 0.3, loss="margin"))
    table, notes = shown(capsys, *runs)
    assert table[0] == ["", "n", "e_recall@1", "nmi"]
    assert table[2] == ["untrained network", "2", "10.0 ± 0.0", "5.0 ± 0.0"]
    # sqrt(2) / 10, and half of it
    assert table[3] == ["a", "2", "60.0 ± 14.1", "30.0 ± 7.1"]
    assert table[4] == ["b", "1", "30.0", "15.0"]
    assert notes == ["Values of the last epoch.",
                     "Seeds differ: 1 2 (a); 1 (b). Means are over a row's own seeds."]
    assert shown(capsys, *runs, flag, "nmi")[0][0] == ["", "n", "nmi"]


def test_rows_stand_in_the_order_given_and_each_run_counts_once(tmp_path, capsys):
    a = make_run(tmp_path / "x" / "y", "a", 1, 0.5)
    b = make_run(tmp_path, "b", 1, 0.3, loss="margin")
    table, _ = shown(capsys, b, a, tmp_path, tmp_path / "x")
    assert [line[:2] for line in table[3:]] == [["b", "1"], ["a", "1"]]


def test_a_folder_is_searched_for_runs(tmp_path, capsys):
    make_run(tmp_path / "x" / "y", "a", 1, 0.5)
    (tmp_path / "logs").mkdir()
    assert shown(capsys, tmp_path)[0][3][0] == "a"


def test_links_to_folders_of_runs_are_followed(tmp_path, capsys):
    make_run(tmp_path / "here", "a-s1", 1, 0.5)
    make_run(tmp_path / "there", "a-s2", 2, 0.5)
    (tmp_path / "here" / "more").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "round").symlink_to(tmp_path / "here")
    assert shown(capsys, tmp_path / "here")[0][3][:2] == ["a", "2"]
    assert len(find_runs(tmp_path / "here")) == 2


@pytest.mark.parametrize("name", ["lr", "steps"])
def test_a_row_may_have_the_name_of_a_flag(tmp_path, capsys, name):
    make_run(tmp_path, name, 1, 0.5)
    assert shown(capsys, tmp_path)[0][3][0] == name


def test_two_runs_of_one_seed_are_refused(tmp_path, capsys):
    runs = [make_run(tmp_path, "a-s1", 1, 0.5),
            make_run(tmp_path, "a-s1-2", 1, 0.5, savename="a-s1")]
    assert "have the same flags and the same seed 1" in refused(capsys, *runs)
    assert "there is no such folder" in refused(capsys, tmp_path / "nowhere")


def test_one_name_with_other_flags_is_told_apart_by_them(tmp_path, capsys):
    runs = [make_run(tmp_path, "a", 1, 0.5, savename="x", lr=0.1, tau=[2, 3]),
            make_run(tmp_path, "b", 1, 0.5, savename="x", lr=0.01, tau=[2, 3]),
            make_run(tmp_path, "c", 1, 0.5, savename="x", lr=0.1, tau=[4], new_flag=True)]
    table, _ = shown(capsys, *runs)
    assert [line[0] for line in table[3:]] == [
        "x (lr 0.1, tau 2 3, new_flag -)",
        "x (lr 0.01, tau 2 3, new_flag -)",
        "x (lr 0.1, tau 4, new_flag True)",
    ]


@pytest.mark.parametrize("dataset, rows", [("cub200", 1), ("image_folder", 2), ("embeddings", 2)])
def test_where_runs_lie_makes_no_row_but_what_images_they_have_seen_does(tmp_path, capsys, dataset,
                                                                         rows):
    runs = [make_run(tmp_path, f"a-s{seed}", seed, 0.5, dataset=dataset,
                     source_path=f"disk{seed}", device=f"d{seed}",
                     evaluation_metrics=["nmi"] * seed) for seed in (1, 2)]
    names = [line[0] for line in shown(capsys, *runs)[0][2:]]
    assert len([name for name in names if name != "untrained network"]) == rows


def test_the_untrained_network_is_shown_where_all_rows_start_from_such(tmp_path, capsys):
    runs = [make_run(tmp_path, name, 1, 0.5, arch=name) for name in ("convnet", "resnet50")]
    assert [line[0] for line in shown(capsys, *runs)[0][2:]] == ["convnet", "resnet50"]


@pytest.mark.parametrize("flag, one, other, shows", [
    ("memory", "realnvp", "none", False), ("relation", "gru", "none", False),
    ("pooling", "avg", "max", False), ("glyphs_seed", 0, 1, False), ("lr", 0.1, 0.2, True),
    ("projection_init", "pca", "random", False), ("amp", "none", "bf16", False), ("cache", "none", "ram", False),
    ("augmentation", "base", "big", False), ("augmentation", "base", "red", True),
    ("use_tv_split", True, False, True),
])
def test_the_untrained_network_stands_for_rows_that_start_alike_in_any_order(tmp_path, capsys, flag, one, other,
                                                                           shows):
    runs = [*seeds(tmp_path, "a", {1: 0.5, 2: 0.6}, **{flag: one}),
            *seeds(tmp_path, "b", {2: 0.7, 3: 0.8}, **{flag: other})]
    for folder, value in zip(runs, (0.1, 0.2, 0.2, 0.6)):
        path = Path(folder, "result.json")
        write_json(path, json.loads(path.read_text()) | {"untrained": {"e_recall@1": value}})
    for argv in (runs, runs[::-1]):
        first = shown(capsys, *argv)[0][2]
        # the mean of .1, .2 and .6, one value for each seed
        expected = ["untrained network", "3", "30.0 ± 26.5", "-"]
        assert first == expected if shows else first[0] in "ab"


def test_a_run_of_that_name_does_not_hide_the_untrained_network(tmp_path, capsys):
    both = [make_run(tmp_path, "untrained network", 1, 0.5), make_run(tmp_path, "a", 1, 0.4, loss="margin")]
    table, _ = shown(capsys, *both, "--metric", "e_recall@1")
    assert [line[2] for line in table[2:]] == ["10.0", "50.0", "40.0"]


def test_principal_components_start_alike_where_training_images_do(tmp_path, capsys):
    pca = {"projection_init": "pca"}
    same = [make_run(tmp_path, f"a{lr}", 1, 0.5, lr=lr, use_tv_split=True, **pca) for lr in (1, 2)]
    other = make_run(tmp_path, "b", 1, 0.5, use_tv_split=False, **pca)
    assert shown(capsys, *same)[0][2][0] == "untrained network"
    assert shown(capsys, *same, other)[0][2][0] != "untrained network"


def test_what_a_resume_may_change_leaves_a_run_in_its_row(tmp_path, capsys):
    runs = [make_run(tmp_path, "a-s1", 1, 0.5, cache="disk", cache_path="x", timeout_minutes=5),
            make_run(tmp_path, "a-s2", 2, 0.7, cache="ram", timeout_minutes=10)]
    assert [line[:2] for line in shown(capsys, *runs)[0][3:]] == [["a", "2"]]


def test_runs_of_different_length_are_never_averaged(tmp_path, capsys):
    """Older versions left the number of epochs in options.json as it was when a run was continued."""
    runs = seeds(tmp_path, "a", {1: 0.5, 2: 0.7})
    longer = make_run(tmp_path, "a-s3", 3, 0.9, epochs=4, n_epochs=2)
    table, notes = shown(capsys, *runs, longer)
    assert table[3][:3] == ["a (n_epochs 2)", "2", "60.0 ± 14.1"]
    assert table[4][:3] == ["a (n_epochs 4)", "1", "90.0"]
    assert notes.count("Runs of different length are not averaged, and stand in rows of their own (a (n_epochs 2): "
                       "2 epochs, 20 steps; a (n_epochs 4): 4 epochs, 40 steps).") == 1
    assert not has_note(shown(capsys, *runs)[1], "Runs of different length")


def test_contexts_make_rows_and_their_absence_makes_none(tmp_path, capsys):
    """Older runs have no such flag; metrics with other contexts are not averaged."""
    seeds(tmp_path, "old", {1: 0.5}, savename="a")
    seeds(tmp_path, "off", {2: 0.7}, savename="a", eval_context=0, eval_context_power=3.0)
    assert [row[:2] for row in shown(capsys, str(tmp_path))[0][3:]] == [["a", "2"]]
    seeds(tmp_path, "four", {1: 0.5}, savename="a", eval_context=4, eval_context_power=3.0)
    seeds(tmp_path, "eight", {1: 0.5}, savename="a", eval_context=8, eval_context_power=3.0)
    table, _ = shown(capsys, str(tmp_path))
    assert sorted(row[1] for row in table[2:]) == ["1", "1", "2"]
    assert any("eval_context 8" in row[0] for row in table)


def of_other_steps(root, **flags):
    """Two runs of two epochs, of 20 and 24 steps."""
    runs = seeds(root, "a", {1: 0.5, 2: 0.7}, **flags)
    for name, content in (("result.json", '"steps": 20'), ("metrics.csv", "2,20,")):
        path = Path(runs[1], name)
        text = path.read_text()
        assert content in text
        path.write_text(text.replace(content, content.replace("20", "24")))
    return runs


@pytest.mark.parametrize("flags", [{}, {"use_tv_split": True, "steps_per_epoch": 10}])
def test_runs_of_as_many_epochs_and_other_steps_are_not_averaged(tmp_path, capsys, flags):
    table, notes = shown(capsys, *of_other_steps(tmp_path, **flags))
    assert [line[0] for line in table[3:]] == ["a (steps 20)", "a (steps 24)"]
    assert has_note(notes, "Runs of different length are not averaged")


def test_seeds_with_training_classes_of_their_own_are_averaged_epoch_by_epoch(tmp_path, capsys):
    table, notes = shown(capsys, *of_other_steps(tmp_path, use_tv_split=True, steps_per_epoch=0))
    assert table[-1][:3] == ["a", "2", "60.0 ± 14.1"]
    assert has_note(notes, "Steps differ: 20 (a seed 1); 24 (a seed 2).")
    assert not has_note(notes, "Runs of different length")


def test_a_run_that_is_to_go_on_is_incomplete(tmp_path, capsys):
    longer = make_run(tmp_path, "a-s1", 1, 0.5, n_epochs=4)
    assert "it goes on to epoch 4, and its result.json is of epoch 2" in refused(capsys, longer)


def test_the_code_of_continuations_is_part_of_what_differs(tmp_path, capsys):
    begun = {"commit": "a" * 40}
    continued = begun | {"continuations": [{"commit": "a" * 40}, {"commit": "b" * 40}, 7]}
    runs = [make_run(tmp_path, "a-s1", 1, 0.5, options=begun),
            make_run(tmp_path, "a-s2", 2, 0.5, options=continued)]
    words = "Commits differ: aaaaaaaaaaaa (a seed 1); aaaaaaaaaaaa then bbbbbbbbbbbb (a seed 2)."
    assert words in shown(capsys, *runs)[1]


# ------------------------------------------------------------ differences


def test_the_difference_is_paired_over_the_seeds_in_common(tmp_path, capsys):
    runs = seeds(tmp_path, "base", {1: 0.50, 2: 0.60, 3: 0.40, 4: 0.9})
    runs += seeds(tmp_path, "other", {3: 0.42, 1: 0.53, 2: 0.61, 9: 0.1}, loss="margin")
    runs.append(make_run(tmp_path, "lone", 1, 0.4, loss="snr"))
    runs.append(make_run(tmp_path, "apart", 7, 0.4, loss="triplet"))
    table, notes = shown(capsys, *runs, "--metric", "e_recall@1", "--baseline", "base")
    assert table[0] == ["", "n", "e_recall@1", "Δ e_recall@1"]
    found = {line[0]: line[-1] for line in table[3:]}
    # differences .03, .01, .02: mean .02, s = .01, t(.975, 2) = 4.3027, half width .0248
    assert found == {"base": "baseline", "other": "+2.0 [-0.5, +4.5] 3/3", "lone": "-10.0 0/1",
                     "apart": "-"}
    assert has_note(notes, "Seeds differ: 1 2 3 4 (base); 1 2 3 9 (other); 1 (lone); 7 (apart).")
    assert has_note(notes, "Δ: difference to base over the seeds in common")


def test_with_several_baselines_the_longest_beginning_counts(tmp_path, capsys):
    values = {"snr": 0.1, "snr-b": 0.2, "snr-b-lm": 0.5, "snr-lm": 0.4, "npair": 0.9}
    runs = [make_run(tmp_path, name, 1, value, lr=value) for name, value in values.items()]
    argv = [*runs, "--metric", "e_recall@1", "--baseline", "snr", "snr-b"]
    table, notes = shown(capsys, *argv)
    assert [line[-1] for line in table[3:]] == ["baseline", "baseline", "+30.0 1/1", "+30.0 1/1",
                                                "-"]
    assert has_note(notes, "Δ: difference to the one of snr, snr-b whose name the row begins with")


def test_a_missing_baseline_lists_the_rows(tmp_path, capsys):
    run = make_run(tmp_path, "smoothap", 1, 0.5)
    problem = refused(capsys, run, "--baseline", "smothap")
    assert "--baseline smothap: there is no row of this name. Did you mean smoothap?" in problem
    assert "--metric mAp: there is no metric" in refused(capsys, run, "--metric", "mAp")


# ------------------------------------------------------------ incomplete runs


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


DAMAGES = {
    "unfinished": (remove("result.json"), "it has no result: epoch 2 of 2"),
    "no options": (remove("options.json"), "it has no readable options.json"),
    "no history": (remove("metrics.csv"), "it has no readable metrics.csv"),
    "half a result": (write("result.json", '{"final": {"nm'), "it has no result"),
    "continued": (write("metrics.csv", "epoch,step\n0,0\n3,30\n"),
                  "its result.json is of step 20, its metrics.csv goes to step 30"),
    "no seed": (write("options.json", '{"flags": {}}'), "its options.json names no seed"),
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "it holds no run"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_incomplete_run_is_named_and_left_out_only_on_request(tmp_path, capsys, damage):
    runs = seeds(tmp_path, "a", {1: 0.5, 2: 0.7})
    harm, words = DAMAGES[damage]
    harm(tmp_path / "a-s2")
    problem = refused(capsys, *runs)
    assert f"a-s2: {words}" in problem
    assert "--skip_incomplete" in problem
    assert "a-s1" not in problem
    table, notes = shown(capsys, *runs, "--skip_incomplete")
    assert table[3] == ["a", "1", "50.0", "25.0"]
    assert any(note.startswith("Left out: ") and f"a-s2: {words}" in note for note in notes)
    assert "there is no finished run" in refused(capsys, runs[1], "--skip_incomplete")


# ------------------------------------------------------------ notes


def provenance(version, commit, changed=False):
    return {"versions": {"torch": version}, "commit": commit * 40, "device": "cpu",
            "uncommitted_changes": changed}


def test_what_differs_is_said(tmp_path, capsys):
    old = provenance("2.11", "a")
    new = provenance("2.15", "a")
    changed = provenance("2.15", "b", changed=True)
    runs = [make_run(tmp_path, "a-s1", 1, 0.5, options=old),
            make_run(tmp_path, "a-s2", 2, 0.5, options=new),
            make_run(tmp_path, "b-s1", 1, 0.5, loss="snr", options=changed),
            make_run(tmp_path, "c-s1", 1, 0.5, epochs=3, dataset="cub200", options=new)]
    _, notes = shown(capsys, *runs)
    assert "Steps differ: 20 (a, b); 30 (c)." in notes
    assert "Commits differ: aaaaaaaaaaaa (a, c); bbbbbbbbbbbb (b)." in notes
    assert "Versions of torch differ: 2.11 (a seed 1); 2.15 (a seed 2, b, c)." in notes
    assert "Data sets differ: glyphs (a, b); cub200 (c)." in notes
    assert "1 of 4 runs were made with changes to the code that no commit holds." in notes
    assert not any("Devices" in note for note in notes)


def test_runs_of_other_names_in_a_row_are_said(tmp_path, capsys):
    runs = [make_run(tmp_path, "a-s1", 1, 0.5), make_run(tmp_path, "b-s2", 2, 0.5)]
    assert has_note(shown(capsys, *runs)[1], "a holds runs of the names a, b")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_metric_that_some_runs_lack_is_not_averaged(tmp_path, capsys, value):
    runs = seeds(tmp_path, "a", {1: 0.5, 2: 0.7})
    path = tmp_path / "a-s1" / "result.json"
    result = json.loads(path.read_text())
    result["final"]["nmi"] = value
    write_json(path, result)
    table, notes = shown(capsys, *runs)
    assert table[3] == ["a", "2", "60.0 ± 14.1", "-"]
    assert "a: only the runs of seed 2 have nmi." in notes


# ------------------------------------------------------------ choosing an epoch


def test_the_best_epoch_and_who_chose_it(tmp_path, capsys):
    val = seeds(tmp_path, "v", {1: 0.5, 2: 0.7}, best={"e_recall@1": (0.8, "val")}, val=0.9)
    test = make_run(tmp_path, "t", 1, 0.5, best={"e_recall@1": (0.6, "test")}, loss="margin")
    columns = ["--metric", "e_recall@1", "val_e_recall@1"]
    table, notes = shown(capsys, *val, test, "--at", "best", *columns)
    assert table[3] == ["v", "2", "80.0 ± 0.0", "80.0 ± 0.0"]
    assert table[4] == ["t", "1", "60.0", "-"]
    by_validation = ("Values of the best epoch by e_recall@1, chosen on the validation classes, "
                     "reported on the test classes")
    by_test = "on the test classes themselves, which reads too high"
    assert notes[0] == f"{by_validation} (v); {by_test} (t)."
    assert shown(capsys, *val, "--at", "best")[1][0] == f"{by_validation}."
    problem = refused(capsys, test, "--at", "best", "--best_by", "nmi")
    assert "t has no best epoch by it, but by: e_recall@1" in problem


def test_how_often_there_was_a_choice_is_said_of_the_best_epoch(tmp_path, capsys):
    best = {"e_recall@1": (0.6, "test")}
    runs = [make_run(tmp_path, "t", 1, 0.5, best=best),
            make_run(tmp_path, "r", 3, 0.5, best=best, eval_every=4)]
    words = "Epochs between evaluations differ: unknown (t seed 1); 4 (t seed 3)"
    assert has_note(shown(capsys, *runs, "--at", "best")[1], words)
    assert not has_note(shown(capsys, *runs)[1], "Epochs between evaluations differ")


def test_the_best_of_a_grid_is_picked_by_validation_alone(tmp_path, capsys):
    grid = []
    for name, test, val in (("g-1", 0.9, 0.6), ("g-2", 0.5, 0.8), ("g-3", 0.7, 0.7)):
        grid += seeds(tmp_path, name, {1: test, 2: test}, val=val, lr=test)
    other = seeds(tmp_path, "other", {1: 0.6, 2: 0.7}, val=0.1, loss="margin")
    argv = ["--pick", "g-*", "--baseline", "g-*", "--metric", "e_recall@1"]
    table, notes = shown(capsys, *grid, *other, *argv)
    assert [line[0] for line in table[3:]] == ["g-2", "other"]
    assert table[4][-1].startswith("+15.0 [")
    assert ("g-2 is the best of 3 rows g-* on the validation classes (val_e_recall@1: g-1 60.0; "
            "g-2 80.0; g-3 70.0).") in notes


@pytest.mark.parametrize("metric, best", [
    ("fnmr@0.1", "g-1"), ("dists@intra", "g-1"), ("rho_spectrum@1", "g-1"),
    ("dists@inter", "g-2"), ("e_recall@1", "g-2"),
])
def test_the_best_of_a_grid_is_the_lowest_where_lower_is_better(tmp_path, capsys, metric, best):
    grid = []
    for name, value in (("g-1", 0.2), ("g-2", 0.6)):
        folder = make_run(tmp_path, name, 1, 0.5, val=value, lr=value)
        table = Path(folder, "metrics.csv")
        table.write_text(table.read_text().replace("e_recall@1", metric))
        grid.append(folder)
    table, _ = shown(capsys, *grid, "--pick", "g-*", "--best_by", metric)
    assert [line[0] for line in table[3:]] == [best]


def test_a_grid_that_cannot_be_picked_from_is_one_sentence(tmp_path, capsys):
    runs = seeds(tmp_path, "g-1", {1: 0.5, 2: 0.6}, val=0.5)
    assert "no row has such a name" in refused(capsys, *runs, "--pick", "h-*")
    apart = make_run(tmp_path, "g-2", 3, 0.2, val=0.5, loss="margin")
    assert "no seed in common" in refused(capsys, *runs, apart, "--pick", "g-*")
    lone = make_run(tmp_path, "g-4", 1, 0.2, loss="snr")
    assert "row g-4 has no val_e_recall@1" in refused(capsys, *runs, lone, "--pick", "g-*")


# ------------------------------------------------------------ published numbers


def expected_file(root, text):
    path = root / "expected.csv"
    path.write_text("dataset,row,metric,percent,source,selection\n" + text)
    return path


def test_published_numbers_stand_beside_the_measured(tmp_path, capsys):
    a = make_run(tmp_path, "a", 1, 0.5)
    b = make_run(tmp_path, "b", 1, 0.5, loss="margin")
    file = expected_file(tmp_path, "glyphs,a,e_recall@1,63.1,Roth 2020,best epoch on test\n"
                                   "cub200,b,nmi,9,x,y\n")
    table, _ = shown(capsys, a, b, "--expected", file, "--metric", "e_recall@1")
    assert table[0][2:] == ["e_recall@1", "expected e_recall@1", "source", "selection"]
    assert table[3][2:] == ["50.0", "63.1", "Roth 2020", "best epoch on test"]
    assert table[4][3:] == ["-"] * 3
    _, notes = shown(capsys, b, "--expected", file)
    assert any("has no number for these rows" in note for note in notes)


def test_sources_of_published_numbers_are_no_formulas(tmp_path, capsys):
    a = make_run(tmp_path, "a", 1, 0.5)
    file = expected_file(tmp_path, "glyphs,a,nmi,9,'=1+1,'+x\n")
    assert main([a, "--expected", str(file), "--metric", "nmi", "--format", "csv"]) == 0
    line = list(csv.DictReader(capsys.readouterr().out.splitlines()))[-1]
    assert (line["nmi_source"], line["nmi_selection"]) == ("'=1+1", "'+x")


def test_a_row_without_a_published_number_says_so(tmp_path, capsys):
    a = make_run(tmp_path, "a", 1, 0.5)
    file = expected_file(tmp_path, "glyphs,a,e_recall@1,not published,Yan 2023,-\n")
    table, _ = shown(capsys, a, "--expected", file, "--metric", "e_recall@1")
    assert table[3][2:] == ["50.0", "not published", "Yan 2023", "-"]
    main([str(a), "--expected", str(file), "--metric", "e_recall@1", "--format", "csv"])
    *_, row = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (row["e_recall@1_expected"], row["e_recall@1_source"]) == ("", "Yan 2023")


@pytest.mark.parametrize("text, words", [
    ("glyphs,a,nmi,many,x,y\n", "line 2: many is not a percentage"),
    ("glyphs,a,nmi,3\n", "line 2: the source is empty"),
    ("glyphs,a,nmi,3,x,y\nglyphs,a,nmi,4,x,y\n", "line 3: glyphs, a, nmi stands in an earlier line"),
])
def test_a_wrong_file_of_published_numbers(tmp_path, capsys, text, words):
    run = make_run(tmp_path, "a", 1, 0.5)
    assert words in refused(capsys, run, "--expected", expected_file(tmp_path, text))
    assert "there is no such file" in refused(capsys, run, "--expected", tmp_path / "none.csv")


# ------------------------------------------------------------ formats


@pytest.fixture
def two_rows(tmp_path):
    runs = seeds(tmp_path, "a", {1: 1 / 3, 2: 2 / 3})
    runs += seeds(tmp_path, "b", {1: 0.5, 2: 0.75}, loss="margin")
    return [*runs, "--baseline", "a", "--metric", "e_recall@1"]


def test_csv_has_all_digits_and_the_notes_go_to_stderr(two_rows, capsys):
    assert main([*two_rows, "--format", "csv"]) == 0
    out = capsys.readouterr()
    lines = list(csv.DictReader(out.out.splitlines()))
    assert list(lines[0]) == ["row", "n", "seeds", "baseline", "e_recall@1_mean", "e_recall@1_std",
                              "e_recall@1_difference", "e_recall@1_low", "e_recall@1_high",
                              "e_recall@1_better", "e_recall@1_pairs"]
    _, a, b = lines
    assert (a["row"], a["n"], a["seeds"], a["baseline"]) == ("a", "2", "1 2", "a")
    assert float(a["e_recall@1_mean"]) == pytest.approx(0.5, abs=1e-15)
    assert float(a["e_recall@1_std"]) == pytest.approx(0.5 ** 0.5 / 3, abs=1e-15)
    assert a["e_recall@1_difference"] == a["e_recall@1_pairs"] == ""
    assert float(b["e_recall@1_difference"]) == pytest.approx(0.125, abs=1e-15)
    # whole numbers stay whole beside the gaps of the baseline
    assert (b["e_recall@1_better"], b["e_recall@1_pairs"]) == ("2", "2")
    assert "Values of the last epoch." in out.err


def test_markdown_is_aligned(tmp_path, capsys):
    runs = seeds(tmp_path, "a|b", {1: 0.5, 2: 0.7})
    assert main([*runs, "--metric", "e_recall@1"]) == 0
    assert capsys.readouterr().out == """\
|                   | n |  e_recall@1 |
|-------------------|--:|------------:|
| untrained network | 2 |  10.0 ± 0.0 |
| a\\|b              | 2 | 60.0 ± 14.1 |

* Values of the last epoch.
"""


def test_latex_escapes_what_latex_would_read(tmp_path, capsys):
    name = "50%_a&b#$x{y}~^\\[z]"
    runs = [make_run(tmp_path, "a", 1, 0.5, savename=name),
            make_run(tmp_path, "b", 1, 0.4, loss="margin")]
    argv = ["--format", "latex", "--baseline", name, "--metric", "e_recall@1"]
    assert main([*runs, *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if not line.startswith("%")]
    assert table[0] == r"\begin{tabular}{lrrr}"
    assert table[-1] == r"\end{tabular}"
    assert r" & n & e\_recall@1 & $\Delta$ e\_recall@1 \\" in table
    escaped = (r"50\%\_a\&b\#\$x\{y\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
               r"{[}z{]} & 1 &")
    assert any(line.startswith(escaped) for line in table)
    assert r"b & 1 & 40.0 & $-$10.0 0/1 \\" in table
    for line in table[2:-2]:
        bare = re.sub(r"\\[_%&#${}]", "", line)
        assert "%" not in bare
        assert "#" not in bare
        assert bare.count("$") % 2 == 0
        assert bare.count("{") == bare.count("}")
        assert "\\midrule" in line or bare.count("&") == 3


def test_a_name_cannot_steer_the_terminal_or_break_the_table(tmp_path, capsys):
    table, _ = shown(capsys, make_run(tmp_path, "a", 1, 0.5, savename="x\x1b[2Jy\nz"))
    assert table[3][0] == r"x\x1b[2Jy\nz"


# ------------------------------------------------------------ the command


@pytest.mark.parametrize("argv, absent", [(["--help"], ["torch", "pandas"]), ([], ["torch"])])
def test_neither_help_nor_a_table_imports_more_than_it_needs(tmp_path, argv, absent):
    run = make_run(tmp_path, "a", 1, 0.5)
    code = ("import atexit, sys\n"
            "atexit.register(lambda: print('imported', *sys.modules))\n"
            "from evaluation.tables.command import main\n"
            "sys.exit(main(sys.argv[1:]))\n")
    done = subprocess.run([sys.executable, "-c", code, run, *argv], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not set(absent) & set(done.stdout.splitlines()[-1].split())


def test_text_of_a_file_stays_within_its_comment(tmp_path, capsys):
    versions = {"torch\n\\input{secret}": "1\n\\end{document}"}
    runs = [make_run(tmp_path, "a-s1", 1, 0.5, options={"versions": versions}),
            make_run(tmp_path, "b-s1", 1, 0.5, loss="margin", options={"versions": {"torch": "2"}})]
    assert main([*runs, "--format", "latex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    hostile = [line for line in lines if "secret" in line or "end{document}" in line]
    assert hostile and all(line.startswith("%") for line in hostile)
