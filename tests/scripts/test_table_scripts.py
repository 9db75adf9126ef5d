"""The scripts of the tables: every command parses and builds, and the queue runs what is left, once, on every GPU."""
import csv
import functools
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import scripts.check_runs
from architectures.memory import select as select_memory
from evaluation.tables.command import build_parser
from parameters import get_options, kwargs_for
from training.building import build_method, build_miner
from utilities.errors import UsageError

ROOT = Path(__file__).parents[2]
TABLES = sorted(path.name for path in (ROOT / "scripts").glob("table_*.sh"))
SCRIPTS = [*TABLES, "toy_cpu.sh"]
OURS = ("SEEDS", "TUNE_SEEDS", "GPUS", "DATA", "OUT", "DRY_RUN", "EXTRA", "ONLY", "ARCHS", "ARCH", "DATASET",
        "DATASETS", "EPOCHS", "FROZEN", "SCREEN")


def call(script, cwd=ROOT, **variables):
    """Run a script with these variables and none of the caller's."""
    environment = {name: value for name, value in os.environ.items() if name not in (*OURS, "CUDA_VISIBLE_DEVICES")}
    environment |= {"PYTHON": sys.executable} | {name: str(value) for name, value in variables.items()}
    return subprocess.run(["bash", str(ROOT / "scripts" / script)], cwd=cwd, env=environment, capture_output=True,
                          text=True)


@functools.cache
def commands(script, **variables):
    """The arguments of main.py and those of evaluation.tables that a script would call them with."""
    done = call(script, DRY_RUN=1, **variables)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert {line[0] for line in lines} == {sys.executable}
    return ([line[2:] for line in lines if line[1] == "main.py"],
            [line[3:] for line in lines if line[1:3] == ["-m", "evaluation.tables"]])


@functools.cache
def parsed(argv):
    """The options of a command, from a tuple of its words."""
    return get_options(list(argv))


def options_of(script, **variables):
    """The options of every run of a script."""
    return [parsed(tuple(argv)) for argv in commands(script, **variables)[0]]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_parses_and_its_parts_fit_together(script):
    runs, tables = commands(script, SEEDS=1)
    built = set()
    for argv in runs:
        opt = parsed(tuple(argv))
        method = str({name: value for name, value in vars(opt).items() if name not in ("savename", "arch", "dataset")})
        if method not in built:
            built.add(method)
            build_method(opt, SimpleNamespace(feature_dim=64, embed_dim=opt.embed_dim), 8)
            build_miner(opt)
            select_memory(opt.memory, opt.embed_dim, **kwargs_for(opt, "memory_"))
    assert tables and all(build_parser().parse_args(argv).runs for argv in tables)
    assert len({tuple(argv) for argv in runs}) == len(runs) >= 12


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_run_stands_in_a_table_under_its_own_name(script):
    tables = commands(script, SEEDS="3 7", TUNE_SEEDS="3 7")[1]
    runs = options_of(script, SEEDS="3 7", TUNE_SEEDS="3 7")
    folders = ["/".join((opt.save_path, opt.dataset, opt.savename)) for opt in runs]
    shown = {str(path) for argv in tables for path in build_parser().parse_args(argv).runs}
    assert len(set(folders)) == len(folders) and set(folders) == shown
    assert {(folder[-3:], opt.seed) for folder, opt in zip(folders, runs)} == {("-s3", 3), ("-s7", 7)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_two_rows_are_the_same_run(script):
    groups = "method memory weights parts published gpw proxies rivals"
    for opts in split_at_tuning(options_of(script, SEEDS=1, ROWS=groups)):
        scripts.check_runs.refuse_twins(opts)
    runs, _ = commands("toy_cpu.sh", SEEDS=1, ROWS="parts", EXTRA="--memory_dual none")
    with pytest.raises(UsageError, match="dual-embedding-s1 and dual-none-s1 would .* count twice"):
        scripts.check_runs.check([shlex.join(["python", "main.py", *argv]) for argv in runs])


def split_at_tuning(runs):
    """Candidates of a grid and rows, which stand in tables of their own."""
    parts = {True: [], False: []}
    for opt in runs:
        parts[opt.savename.startswith("tune-")].append(opt)
    return parts.values()


def test_the_environment_reaches_every_command():
    for opt in options_of("table_cub200.sh", SEEDS=5, DATA="/my images", EXTRA="--n_epochs 2 --amp bf16",
                          ARCHS="resnet18_normalize"):
        assert (opt.seed, opt.source_path, opt.n_epochs, opt.amp, opt.arch, opt.resume) == (
            5, "/my images", 2, "bf16", "resnet18_normalize", "auto")
    names = {opt.savename for opt in options_of("toy_cpu.sh", SEEDS=1, ONLY="^(full|smoothap)$")}
    rows = {name for name in names if not name.startswith("tune-")}
    assert rows == {"full-s1", "smoothap-s1"}
    assert {name.split("-")[1] for name in names - rows} == {"full", "smoothap"}          # the grids that they need


def test_several_lines_are_as_several_words():
    words = {"SEEDS": "3 7", "TUNE_SEEDS": "6 8", "EXTRA": "--bs=8 --n_epochs=2", "ROWS": "memory parts"}
    lines = options_of("toy_cpu.sh", **{name: text.replace(" ", "\n") for name, text in words.items()})
    assert lines == options_of("toy_cpu.sh", **words)
    assert {opt.seed for opt in lines} == {3, 7, 6, 8} and {(opt.bs, opt.n_epochs) for opt in lines} == {(8, 2)}


def test_a_switch_of_0_is_off():
    plain = options_of("table_small_benchmarks.sh", SEEDS=1)
    assert options_of("table_small_benchmarks.sh", SEEDS=1, FROZEN=0, SCREEN=0) == plain


@pytest.mark.parametrize("blank", ["SEEDS", "GPUS"])
def test_variables_without_a_word_are_refused(blank):
    done = call("toy_cpu.sh", DRY_RUN=1, **{blank: " "})
    assert done.returncode == 2 and "name at least one" in done.stderr


def test_rows_of_the_small_benchmarks_train_as_long_as_asked_and_candidates_as_before():
    lengths = {}
    for opt in options_of("table_small_benchmarks.sh", SEEDS=1, EPOCHS=5):
        lengths.setdefault(opt.savename.startswith("tune-"), set()).add((opt.n_epochs, *opt.tau, opt.eval_every))
    assert lengths == {False: {(5, 4, 5)}, True: {(4, 3, 4)}}


def test_candidates_of_the_small_benchmarks_are_screened_on_frozen_features_and_rows_train_whole():
    screened = options_of("table_small_benchmarks.sh", SEEDS=1, SCREEN=1)
    assert {(opt.savename.startswith("tune-"), opt.freeze) for opt in screened} == {(True, True), (False, False)}
    rows = [{opt.savename: opt for opt in opts if not opt.savename.startswith("tune-")}
            for opts in (screened, options_of("table_small_benchmarks.sh", SEEDS=1))]
    assert rows[0] == rows[1]


def test_groups_of_rows_are_chosen_by_name():
    names = [opt.savename for opt in options_of("toy_cpu.sh", SEEDS=1, ROWS="parts weights")]
    rows = [name for name in names if not name.startswith("tune-")]
    assert rows[::7] == ["policy-without-state-s1", "full-uniform-s1", "factor-batch-ap-s1"]
    wrong = call("toy_cpu.sh", ROWS="method memry", DRY_RUN=1)
    assert wrong.returncode == 2
    assert "no group memry; choose from context controls gpw memory method parts" in wrong.stderr


@pytest.mark.parametrize("groups,baselines", [
    ("method", [["full"], ["constant"], ["smoothap"]]), ("memory", [[]]),
    ("method rivals", [["full"], ["constant"], ["smoothap"], ["margin", "multisimilarity"]])])
def test_rows_are_compared_with_the_baselines_that_there_are(groups, baselines):
    tables = [build_parser().parse_args(argv) for argv in commands("toy_cpu.sh", SEEDS=1, ROWS=groups)[1]]
    assert [table.baseline for table in tables if not table.pick] == baselines


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_baseline_is_a_row_of_its_table(script):
    """Also where tables of another data set came before."""
    for argv in commands(script)[1]:
        table = build_parser().parse_args(argv)
        rows = [re.sub(r"-s[0-9]+$", "", Path(run).name) for run in table.runs]
        assert set(table.baseline or ()) <= set(rows), argv


@pytest.mark.parametrize("script,candidates", [("toy_cpu.sh", 8), ("table_ablation.sh", 12)])
def test_every_grid_has_as_many_candidates_and_the_same_rates(script, candidates):
    grids = {}
    for opt in options_of(script, SEEDS=1, TUNE_SEEDS="6 7", ROWS="method gpw"):
        if opt.savename.startswith("tune-"):
            assert opt.use_tv_split
            name = opt.savename.removeprefix("tune-").partition("-lr")[0]
            grids.setdefault(name, []).append((opt.seed, opt.lr, opt.savename))
    rates = {name: sorted((seed, lr) for seed, lr, _ in runs) for name, runs in grids.items()}
    assert set(grids) == {"margin", "multisimilarity", "smoothap", "constant", "full", "gpw-constant", "gpw-learned"}
    assert len({str(found) for found in rates.values()}) == 1 and len(rates["full"]) == 2 * candidates


# What tuning chooses, with a program in the place of Python that trains nothing and gives the second candidate of each
# grid the highest score on the validation classes.
TUNED = """#!/usr/bin/env bash
if [[ $2 == scripts.check_runs ]]; then cat > /dev/null; exit; fi
if [[ $2 == evaluation.tables && " $* " == *" csv "* ]]; then
    for folder in "${@:3}"; do if [[ $folder == */tune-* ]]; then names+=("${folder##*/}"); fi; done
    printf 'row,n\nuntrained network,1\n%s,1\n' "${names[2]%-s6}"
fi
if [[ $1 != main.py ]]; then exit; fi
while (($#)); do
    case $1 in --save_path) out=$2 ;; --savename) name=$2 ;; esac
    words+=" $1"
    shift
done
mkdir -p "$out/image_folder/$name"
echo '{}' > "$out/image_folder/$name/result.json"
echo "$name$words" >> "$out/calls"
"""


def test_rows_train_with_what_their_grids_chose(tmp_path):
    fake, data = tmp_path / "python", small_images(tmp_path / "images")
    fake.write_text(TUNED)
    fake.chmod(0o755)
    flags = {"PYTHON": str(fake), "OUT": tmp_path / "out", "DATA": data, "SEEDS": 1, "TUNE_SEEDS": "6 7", "GPUS": "cpu",
             "ROWS": "method gpw rivals", "ONLY": "^(smoothap|constant|gpw-uniform|margin-constant)$"}
    assert call("toy_cpu.sh", **flags).returncode == 0
    lines = (tmp_path / "out" / "calls").read_text().splitlines()
    runs = {line.split()[0]: line for line in lines}
    assert len(runs) == len(lines) == 5 * 16 + 4                   # uniform needs the rate that `gpw-learned` chose
    upon = [line for name, line in runs.items() if name.startswith("tune-constant-")]
    assert len(upon) == 16 and all("--loss_smoothap_tau 0.04 " in line for line in upon)
    assert runs["smoothap-s1"].endswith("--loss smoothap --lr 2e-3 --loss_smoothap_tau 0.04")
    assert runs["constant-s1"].endswith("--lr 2e-3 --loss_smoothap_tau 0.04 --lr 2e-3 --policy_constant 10 0")
    assert runs["gpw-uniform-s1"].endswith("--pair_weighting uniform --loss gpw --lr 2e-3")
    assert runs["margin-constant-s1"].endswith("--policy_constant 2 20 --lr 2e-3 --loss_margin_beta 0.4")
    assert call("toy_cpu.sh", **flags).returncode == 0
    assert (tmp_path / "out" / "calls").read_text().splitlines() == lines


@pytest.mark.parametrize("file", ["benchmarks", "base_losses"])
def test_published_numbers_are_of_rows_and_metrics_that_there_are(file):
    rows = {}
    for script in TABLES:
        for opt in options_of(script, SEEDS=1):
            rows.setdefault((opt.dataset, opt.savename.removesuffix("-s1")), set()).update(opt.evaluation_metrics)
    for line in csv.DictReader((ROOT / "scripts" / "expected" / f"{file}.csv").read_text().splitlines()):
        assert line["metric"] in rows[line["dataset"], line["row"]] and line["source"] and line["selection"]
        assert line["percent"] == "not published" or 50 < float(line["percent"]) < 100


@pytest.mark.parametrize("script", TABLES)
def test_without_data_nothing_begins(script, tmp_path):
    for data, words in (("", "set DATA to the folder that holds"), (tmp_path / "no", "there is no such folder")):
        done = call(script, OUT=tmp_path / "out", DATA=data)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_rows_that_wait_for_their_choice_are_parsed_whatever_their_folders_hold(tmp_path, monkeypatch, capsys):
    def code(*more, own=()):
        command = ["python", "main.py", "--save_path", str(tmp_path), "--savename", "row-s1", "--lr", ".5", *more]
        monkeypatch.setattr(sys, "argv", ["check_runs", *own])
        monkeypatch.setattr(sys, "stdin", io.StringIO(shlex.join(command)))
        return scripts.check_runs.main()
    options = tmp_path / "glyphs" / "row-s1" / "options.json"
    options.parent.mkdir(parents=True)
    options.write_text(json.dumps({"flags": vars(get_options(["--lr", ".25"]))}, default=str))
    assert code(own=["--parse"]) == 0 and not capsys.readouterr().err
    assert code() == 2 and "other flags: --lr 0.25 instead of 0.5" in capsys.readouterr().err
    plain = ["--lr", ".5", "--pair_weighting", "uniform"]
    options.write_text(json.dumps({"flags": vars(get_options(plain)) | {"policy_init": "default"}}, default=str))
    assert code("--pair_weighting", "uniform") == 0 and not capsys.readouterr().err
    with pytest.raises(SystemExit):
        code("--memory", "none", "--memory_decode", "mean", own=["--parse"])
    assert "--memory_decode has no effect" in (error := capsys.readouterr().err) and "so row-s1 could not run" in error


@pytest.mark.parametrize("variables, words", [({"EXTRA": "--n_epoch 1"}, "Did you mean --n_epochs?"),
                                              ({"EXTRA": "--lr 1 --seed=3"}, "EXTRA holds --seed"),
                                              ({"EXTRA": "--memory_decode mean", "ROWS": "memory"}, "so memory-none"),
                                              ({"DATA": "."}, "labels.csv"), ({"ONLY": "nothing"}, "matches no row")])
def test_what_cannot_work_is_refused_before_the_first_run(variables, words, tmp_path):
    done = call("toy_cpu.sh", cwd=tmp_path, SEEDS=1, OUT=tmp_path / "out", **variables)
    assert done.returncode == 2 and words in done.stderr and not (tmp_path / "out").exists()


# The queue, with a program in the place of Python that only notes what it is called with.
FAKE = """#!/usr/bin/env bash
if [[ $2 == evaluation.tables ]]; then echo "TABLE ${*:3}"; exit; fi
if [[ $1 != main.py ]]; then cat > /dev/null; exit; fi
while (($#)); do
    case $1 in --save_path) out=$2 ;; --dataset) dataset=$2 ;; --savename) name=$2 ;; esac
    shift
done
mkdir -p "$out/$dataset/$name" "$out/busy"
mkdir "$out/busy/$CUDA_VISIBLE_DEVICES" || { echo "$name" >> "$out/collisions"; }
echo "$CUDA_VISIBLE_DEVICES $name" >> "$out/calls"
if [[ -e ${out%/*}/slow ]]; then trap 'echo "$name" >> "$out/stopped"; kill $!; exit 143' TERM; sleep 30 & wait; fi
sleep 0.1
rmdir "$out/busy/$CUDA_VISIBLE_DEVICES"
if [[ $name == *margin-s2 && ! -e $out/heal ]]; then echo broken; exit 1; fi
echo '{}' > "$out/$dataset/$name/result.json"
"""


@pytest.fixture
def queue_flags(tmp_path):
    """The variables for the program above; one backbone, twelve rows and two seeds make 24 runs."""
    fake = tmp_path / "python"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    return {"PYTHON": str(fake), "OUT": str(tmp_path / "out"), "DATA": str(tmp_path), "SEEDS": "1 2",
            "GPUS": "0 1 5", "ARCHS": "a_x"}


@pytest.fixture
def queue(queue_flags):
    """Calls a table script with them, and with more."""
    return lambda **more: call("table_cub200.sh", **queue_flags | more)


def test_runs_spread_over_the_gpus_and_only_what_is_left_runs_again(queue, tmp_path):
    done = queue()
    calls = [line.split() for line in (tmp_path / "out" / "calls").read_text().splitlines()]
    assert len(calls) == 24 == len({name for _, name in calls}) and {gpu for gpu, _ in calls} == {"0", "1", "5"}
    assert not (tmp_path / "out" / "collisions").exists()
    assert done.returncode == 1 and "1 run failed" in done.stderr and "a-margin-s2.log" in done.stderr
    assert (tmp_path / "out" / "logs" / "cub200" / "a-margin-s2.log").read_text() == "broken\n"
    assert "--skip_incomplete" in done.stdout
    (tmp_path / "out" / "heal").touch()
    again, third = queue(), queue()
    assert (again.returncode, third.returncode) == (0, 0)
    calls = (tmp_path / "out" / "calls").read_text().splitlines()
    assert len(calls) == 25 and calls[-1].endswith("a-margin-s2")
    tables = [[line for line in run.stdout.splitlines() if line.startswith("TABLE")] for run in (done, again, third)]
    assert tables[0] == tables[1] == tables[2] and len(tables[0]) == 2


def test_stopping_stops_the_runs_too(queue_flags, tmp_path):
    (tmp_path / "slow").touch()
    script = subprocess.Popen(["bash", str(ROOT / "scripts" / "table_cub200.sh")], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, env={**os.environ, **queue_flags})
    calls = tmp_path / "out" / "calls"
    while script.poll() is None and not (calls.exists() and len(calls.read_text().splitlines()) == 3):
        time.sleep(0.05)
    script.terminate()
    assert "the same command continues" in script.communicate(timeout=20)[1] and script.returncode == 130
    assert len((tmp_path / "out" / "stopped").read_text().splitlines()) == 3


def test_on_the_cpu_no_gpu_is_seen(queue, tmp_path):
    assert queue(GPUS="cpu", ONLY="softmax").returncode == 0
    calls = (tmp_path / "out" / "calls").read_text().splitlines()
    assert [line.split(" ")[0] for line in calls] == [""] * 6


@pytest.mark.skipif(not shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
                    reason="needs shellcheck")
def test_every_core_has_a_run_however_many_threads_one_has():
    line = "source scripts/lib.sh; on_every_core; echo $GPUS"
    environment = {name: value for name, value in os.environ.items() if name != "GPUS"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu"] * len(os.sched_getaffinity(0))


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    scripts = sorted(str(path) for path in (ROOT / "scripts").glob("*.sh"))
    done = subprocess.run([program, *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def small_images(root):
    random = np.random.default_rng(0)
    for label in range(12):
        (root / f"class{label}").mkdir(parents=True)
        for i in range(8):
            image = np.clip(random.integers(40, 215) + random.normal(0, 25, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / f"class{label}" / f"{i}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("own_images", [False, True])
def test_the_toy_runs_end_to_end_and_a_second_call_prints_the_same_table(tmp_path, own_images):
    small = ("--n_epochs 1 --bs 16 --embed_dim 16 --image_size 16 --relation_hidden 8 "
             "--evaluation_metrics e_recall@1 mAP_r")
    flags = {"SEEDS": "1 2", "TUNE_SEEDS": 6, "OUT": tmp_path / "out", "EXTRA": small,
             "ONLY": "^(full|memory-none|full-uniform)$"}
    if own_images:
        flags["DATA"] = small_images(tmp_path / "images")
    else:
        flags["EXTRA"] += " --glyphs_classes 40 --glyphs_images_per_class 8"
    first = call("toy_cpu.sh", **flags)
    assert first.returncode == 0, first.stderr + first.stdout
    results = sorted((tmp_path / "out").rglob("result.json"))
    written = [path.stat().st_mtime_ns for path in results]
    assert len(results) == 6 + 8 and all(json.loads(path.read_text())["steps"] for path in results)
    second = call("toy_cpu.sh", **flags)
    assert second.returncode == 0 and [path.stat().st_mtime_ns for path in results] == written
    table = "".join(line for line in first.stdout.splitlines(True) if not re.match(r"\d\d:\d\d:\d\d ", line))
    assert second.stdout == table and "| full " in table and "baseline" in table and "/2" in table
    other = call("toy_cpu.sh", **flags | {"EXTRA": flags["EXTRA"] + " --decay 0.5"})
    assert other.returncode == 2
    assert re.search("holds a run with other flags: --decay [0-9.e-]+ instead of 0.5", other.stderr)
