"""steps.csv: means over the steps between two rows, readable at any time, continued after a kill; and --repeat."""
import csv
import json
import math
import time

import pytest
import torch

import training.records
from parameters import chosen_flags, get_options, recorded_flags
from training.records import StepRecorder
from utilities.errors import RunError, UsageError
from utilities.logger import differences, provenance
from utilities.table import GrowingTable, read_rows

CPU = torch.device("cpu")


def recorder(path=None, after=0):
    made = StepRecorder(CPU)
    if path:
        made.write_to(path, after=after)
    return made


def test_a_row_holds_the_means_since_the_last_one(tmp_path):
    rows = recorder(tmp_path / "steps.csv")
    for values in ([1.0, 3.0], [10.0]):
        for value in values:
            rows.add({"total": torch.tensor(value), "metric": torch.tensor(-value)}, images=4,
                     gradient_norm=torch.tensor(2 * value))
        rows.record(1, int(value), {"backbone": 1e-4, "new": 1e-3}, {"reward": 0.5, "probability": [0.1], "ok": True})
    found = read_rows(tmp_path / "steps.csv")
    assert [(row["epoch"], row["step"]) for row in found] == [("1", "3"), ("1", "10")]
    assert [float(row["loss"]) for row in found] == [2, 10]
    assert [float(row["gradient_norm"]) for row in found] == [4, 20]
    assert found[0]["metric"] == "-2.0" and found[0]["reward"] == "0.5" and found[0]["lr_new"] == "0.001"
    assert not {"probability", "ok", "total"} & set(found[0])
    assert float(found[0]["peak_memory_mib"]) > 1


def test_a_scalar_of_some_steps_is_averaged_over_those():
    rows = recorder()
    rows.add({"total": torch.tensor(1.0)}, images=1)
    rows.add({"total": torch.tensor(2.0), "metric_xbm": torch.tensor(6.0)}, images=1)
    row = rows.record(1, 2, {})
    assert row["loss"] == 1.5 and row["metric_xbm"] == 6
    rows.add({"total": torch.tensor(5.0)}, images=1)
    assert "metric_xbm" not in rows.record(1, 3, {})


def test_numbers_that_are_none_are_recorded_as_such(tmp_path):
    rows = recorder(tmp_path / "steps.csv")
    rows.add({"total": torch.tensor(math.nan)}, images=1)
    assert math.isnan(rows.record(1, 1, {})["loss"])
    assert read_rows(tmp_path / "steps.csv")[0]["loss"] == "nan"


def test_speed_counts_the_loop_and_not_what_lies_between(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(training.records.time, "perf_counter", lambda: now[0])

    def passing(seconds):
        now[0] += seconds

    def loader(count):
        for _ in range(count):
            passing(1)                                                             # the wait for a batch
            yield None
    rows, found = recorder(), []
    for epoch in (1, 2):
        for _ in rows.watch(loader(2)):
            rows.add({"total": torch.tensor(0.0)}, images=8)
            passing(3)                                                             # the step
        if epoch == 1:
            passing(1000)                                                          # an evaluation
    found = rows.record(2, 4, {})
    assert found["data_wait"] == 4 / 16 and found["images_per_second"] == 32 / 16
    assert time.perf_counter() == now[0]


def test_averages_continue_after_a_resume():
    whole, first, second = recorder(), recorder(), recorder()
    values = torch.rand(5)
    for rows, part in ((whole, values), (first, values[:2])):
        for value in part:
            rows.add({"total": value}, images=1)
    second.load_state_dict(first.state_dict())
    for value in values[2:]:
        second.add({"total": value}, images=1)
    assert second.record(1, 5, {})["loss"] == whole.record(1, 5, {})["loss"]


@pytest.mark.gpu
def test_adding_does_not_wait_for_the_gpu():
    rows = StepRecorder(torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            rows.add({"total": torch.ones((), device="cuda")}, images=1, gradient_norm=torch.ones((), device="cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert rows.record(1, 3, {})["loss"] == 1


# ------------------------------------------------------------------------------------------------- the file


def steps(path):
    return [row["step"] for row in read_rows(path)]


def test_rows_beyond_the_checkpoint_are_cut_off(tmp_path):
    path = tmp_path / "steps.csv"
    table = GrowingTable(path, after=0)
    for step in (10, 20, 30):
        table.append({"epoch": 1, "step": step, "loss": 0.5})
    GrowingTable(path, after=20).append({"epoch": 1, "step": 30, "loss": 0.25})
    assert steps(path) == ["10", "20", "30"] and read_rows(path)[-1]["loss"] == "0.25"
    GrowingTable(path, after=5)
    assert steps(path) == []
    GrowingTable(path, after=5).append({"step": 10})
    assert path.read_text() == "step\n10\n"


def test_a_file_cut_anywhere_is_continued(tmp_path):
    """Killed at any byte, and resumed from step 20: the rows are those of an uninterrupted run."""
    path = tmp_path / "steps.csv"
    rows = [{"epoch": 1, "step": 10 * n, "loss": 0.1 * n} for n in range(1, 5)]
    for row in rows:
        GrowingTable(path, after=1000).append(row)
    content = path.read_bytes()
    whole = len(b"".join(content.splitlines(keepends=True)[:3]))
    for length in range(whole, len(content)):
        path.write_bytes(content[:length])
        table = GrowingTable(path, after=20)
        for row in rows[2:]:
            table.append(row)
        assert path.read_bytes() == content
    path.write_bytes(content[:whole] + b"\0\0\xff,\n" + content[whole:])           # what a crash of the disk leaves
    GrowingTable(path, after=1000)
    assert path.read_bytes() == content[:whole]


def test_a_new_column_keeps_all_rows(tmp_path):
    path = tmp_path / "steps.csv"
    table = GrowingTable(path, after=0)
    table.append({"step": 1, "loss": 0.5})
    table.append({"step": 2, "metric_xbm": 3.0, "loss": 0.25})
    table.append({"step": 3})
    assert list(csv.reader(path.read_text().splitlines())) == [["step", "loss", "metric_xbm"], ["1", "0.5", ""],
                                                               ["2", "0.25", "3.0"], ["3", "", ""]]
    assert [p.name for p in tmp_path.iterdir()] == ["steps.csv"]


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="steps.csv cannot be written"):
        GrowingTable(tmp_path / "absent" / "steps.csv", after=0).append({"step": 1})


# ------------------------------------------------------------------------------------------------- --repeat


def recorded(tmp_path, argv, **changes):
    """The options.json of a run with these flags."""
    path = tmp_path / "options.json"
    content = provenance(vars(get_options(argv)) | changes, "cpu")
    path.write_text(json.dumps(content))
    return str(path)


COMMANDS = [
    [], ["--recipe", "paper"], ["--loss", "margin", "--lr", "0.5"], ["--arch", "resnet18_normalize"],
    ["--dataset", "image_folder", "--source_path", "x", "--arch", "convnet_normalize"],
    ["--policy_granularity", "anchor", "--seed", "7", "--savename", "n", "--device", "cpu"],
    ["--loss", "adversarial_separation", "--loss_adversarial_separation_on", "margin"],
    ["--loss", "pml.TripletMarginLoss", "--loss_pml_args", "margin=0.1"], ["--relation", "none"],
    ["--pair_weighting", "constant", "--policy_constant", "5", "20"], ["--loss", "recallatk"],
    ["--use_tv_split", "--tv_split_perc", "0.5"], ["--checkpoint", "last.pt"], ["--no-relation_share_projection"],
    ["--recipe", "revisiting", "--source_path", "x"], ["--recipe", "revisiting", "--source_path", "x", "--tau", "9"],
    ["--pooling", "gem", "--feature_norm", "--weights", "w.pth", "--input_mean", "0", "1.5", "2"],
]


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_repeat_gives_the_flags_of_the_run(tmp_path, argv):
    first = get_options(argv)
    again = get_options(["--repeat", recorded(tmp_path, argv)])
    assert json.dumps(vars(again) | {"repeat": None}) == json.dumps(vars(first))


def test_repeat_of_a_run_from_before_the_proxies_has_none(tmp_path):
    path = tmp_path / "options.json"
    flags = {flag: value for flag, value in vars(get_options([])).items() if not flag.startswith("proxies_")}
    path.write_text(json.dumps({"flags": flags}))
    assert get_options(["--repeat", str(path)]).proxies_weight == 0


@pytest.mark.parametrize("given", ["--repeat", "--config"])
def test_a_flag_without_effect_whose_default_was_another_is_not_repeated(tmp_path, given):
    argv = ["--arch", "resnet18_normalize", "--pair_weighting", "uniform"]
    path = recorded(tmp_path, argv, policy_init="zero")
    assert get_options([given, path]).policy_init == "unweighted"
    path = recorded(tmp_path, argv[:2], policy_init="zero")
    assert get_options([given, path]).policy_init == "zero"


def test_flags_of_the_command_line_go_before_those_of_the_file_with_their_consequences(tmp_path):
    path = recorded(tmp_path, ["--lr", "0.5", "--memory", "none", "--gpu", "3"])
    opt = get_options(["--repeat", path, "--loss", "margin", "--lr", "0.25"])
    assert (opt.lr, opt.memory, opt.loss, opt.batch_mining, opt.gpu) == (0.25, "none", "margin", "distance", None)
    opt = get_options(["--repeat", recorded(tmp_path, ["--recipe", "revisiting", "--source_path", "x"]),
                       "--source_path", "x", "--tau", "9"])
    assert (opt.scheduler, opt.tau) == ("step", [9])


def test_no_file_decides_where_is_written(tmp_path):
    folders = {"save_path": "/a", "cache_path": "/b", "source_path": "/c", "json": "/d"}
    for name in ("../out", "/abs", "a/b", ".."):
        opt = get_options(["--repeat", recorded(tmp_path, [], savename=name, **folders)])
        assert (opt.save_path, opt.savename, opt.cache_path, opt.json) == ("runs", "", ".cache", None)
        # The glyphs are drawn into it.
        assert opt.source_path == ".cache"
    images = {"dataset": "image_folder", "source_path": "/c", "savename": "fine"}
    opt = get_options(["--repeat", recorded(tmp_path, [], **images), "--save_path", "mine"])
    assert (opt.source_path, opt.savename, opt.save_path) == ("/c", "fine", "mine")


def test_chosen_flags_are_those_that_differ_from_their_defaults():
    flags = vars(get_options(["--loss", "margin", "--lr", "0.5", "--arch", "resnet18_normalize"]))
    assert chosen_flags(flags) == {"loss": "margin", "lr": 0.5, "arch": "resnet18_normalize"}
    assert chosen_flags(vars(get_options([]))) == {}


@pytest.mark.parametrize("flag,value,words", [
    ("lr", "high", "--lr cannot be 'high'"), ("bs", 2.5, "--bs cannot be 2.5"), ("bs", True, "--bs cannot be True"),
    ("bs", 0, "--bs cannot be 0"), ("recipe", "other", "--recipe cannot be 'other'"),
    ("debug", "yes", "--debug cannot be 'yes'"), ("tau", [1, "x"], "--tau cannot be"), ("tau", [], "--tau cannot be"),
    ("policy_constant", [1.0], "--policy_constant cannot be"), ("dataset", {"a": 1}, "--dataset cannot be"),
    ("lr", float("nan"), "--lr cannot be nan"), ("no_such_flag", 1, "does not know: no_such_flag"),
    ("a\x1b[2Jb", 1, r"does not know: a\x1b[2Jb"), ("help", True, "does not know: help"),
])
def test_a_flag_that_cannot_be_typed_is_refused_in_one_sentence(tmp_path, flag, value, words):
    with pytest.raises(UsageError) as stop:
        recorded_flags(recorded(tmp_path, [], **{flag: value}))
    assert words in str(stop.value) and "\n" not in str(stop.value) and "\x1b" not in str(stop.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"flags": 1}', "[" * 100_000, '{"flags": null}', "\xff"])
def test_a_file_that_is_no_options_json_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="is not the options.json of a run"):
        get_options(["--repeat", str(tmp_path / "x.json")])
    with pytest.raises(UsageError, match="there is no such file"):
        get_options(["--repeat", str(tmp_path / "absent.json")])


def test_differences_are_listed_flag_by_flag_and_version_by_version():
    then = json.loads(json.dumps(provenance({"lr": 0.5, "tau": (1, 2), "repeat": None}, "cpu")))
    then["uncommitted_changes"] = False
    now = provenance({"lr": 0.5, "tau": (1, 2), "repeat": "f"}, "cpu")
    assert differences(then, now | {"uncommitted_changes": False}) == []
    then["versions"]["torch"], then["commit"], then["flags"]["lr"] = "1.0\x1b", "abc", 0.25
    del then["flags"]["tau"]
    found = differences(then, now | {"uncommitted_changes": False})
    assert found[0] == "--lr: 0.5 instead of 0.25" and found[1] == "--tau: [1, 2] instead of None"
    assert any(line.startswith("torch: ") and line.endswith(r"instead of '1.0\x1b'") for line in found)
    assert any(line.startswith("commit: ") for line in found) and len(found) == 4
    assert differences({"flags": 3, "versions": None}, now)                        # of any origin


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        get_options(list(argv))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    return error


def test_flags_of_records_are_refused_where_they_cannot_apply(tmp_path, capsys):
    for flag in ("--wandb_key=SECRET",), ("--wandb_key", "SECRET"):
        error = refused(capsys, *flag)
        assert "WANDB_API_KEY" in error and "SECRET" not in error
    assert "without --log_online" in refused(capsys, "--project", "p")
    assert "without --log_online" in refused(capsys, "--group", "g")
    evaluating = ["--evaluate_only", "--checkpoint", "x"]
    assert "no effect with --evaluate_only" in refused(capsys, *evaluating, "--tensorboard")
    assert "no effect with --evaluate_only" in refused(capsys, *evaluating, "--log_online")
    path = recorded(tmp_path, [])
    assert "no effect with --evaluate_only" in refused(capsys, *evaluating, "--repeat", path)
    assert "pass one of them" in refused(capsys, "--resume", "auto", "--repeat", path)
