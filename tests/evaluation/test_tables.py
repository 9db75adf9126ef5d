"""Tables from run folders."""
import json

import pytest

from evaluation.tables import main, metric_table, summary


def make_run(root, name, seed, value, **flags):
    folder = root / name
    folder.mkdir()
    flags = {"recipe": "default", "loss": "gpw", "savename": name, "seed": seed, "save_path": str(root)} | flags
    (folder / "options.json").write_text(json.dumps({"flags": flags}))
    (folder / "result.json").write_text(json.dumps({"final": {"nmi": value, "mAP": value / 2},
                                                    "untrained": {"nmi": 0.1, "mAP": 0.05}}))
    return str(folder)


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]


def test_seeds_become_one_row_and_other_flags_another(tmp_path, capsys):
    runs = [make_run(tmp_path, "a-s1", 1, 0.5), make_run(tmp_path, "a-s2", 2, 0.7),
            make_run(tmp_path, "b", 1, 0.3, loss="margin")]
    assert main(runs) == 0
    table = cells(capsys.readouterr().out)
    assert table[0] == ["", "n", "nmi", "mAP"]
    assert table[2] == ["untrained network", "2", "10.0 ± 0.0", "5.0 ± 0.0"]
    assert table[3] == ["a", "2", "60.0 ± 14.1", "30.0 ± 7.1"]
    assert table[4] == ["b", "1", "30.0", "15.0"]
    main([*runs, "--metrics", "mAP"])
    assert cells(capsys.readouterr().out)[0] == ["", "n", "mAP"]


def test_an_unfinished_run_is_named(tmp_path):
    run = make_run(tmp_path, "a", 1, 0.5)
    (tmp_path / "a" / "result.json").unlink()
    with pytest.raises(SystemExit, match="a is not the folder of a finished run"):
        main([run])


def test_intervals_stand_behind_their_metrics():
    row = {"nmi": 0.859, "nmi_low": 0.841, "nmi_high": 0.8753, "mAP": 0.5}
    assert cells(metric_table({"x": row}))[::2] == [["", "nmi", "mAP"], ["x", "85.9 [84.1, 87.5]", "50.0"]]
    assert metric_table({"x": {"rho_spectrum@-1": 3.1234}}).endswith("|           3.123 |")
    assert summary([row, row]) == {"n": "2", "nmi": "85.9 ± 0.0", "mAP": "50.0 ± 0.0"}


def test_metric_table_shows_percent_and_marks_what_is_missing():
    table = cells(metric_table({"x": {"nmi": 0.5}, "y": {"nmi": 1.0, "mAP": 0.25}}))
    assert table[2:] == [["x", "50.0", "-"], ["y", "100.0", "25.0"]]
