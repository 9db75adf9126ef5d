"""--config: the flags of a file are those of a command line that has the same words."""
import json

import pytest

from parameters import explicit_flags, get_options
from utilities.errors import answer

TEXT = """
# a comment
bs: 80
lr: 1e-4
tau: [3, 5]
storage_metrics:
  - e_recall@1
memory_decode: off
relation_bidirectional: no
tensorboard: true
savename: "12:30"
"""
WORDS = ["--bs", "80", "--lr", "1e-4", "--tau", "3", "5", "--storage_metrics", "e_recall@1", "--memory_decode", "off",
         "--no-relation_bidirectional", "--tensorboard", "--savename", "12:30"]


def refused(argv):
    """The exit code, as main.py ends with it."""
    try:
        return answer("main.py", lambda: get_options(argv))
    except SystemExit as stop:
        return stop.code


def written(tmp_path, text, name="flags.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_flags_of_a_file_count_as_typed(tmp_path):
    path = written(tmp_path, TEXT)
    assert vars(get_options(["--config", path])) == vars(get_options(WORDS))
    assert explicit_flags([f"--config={path}"]) == explicit_flags(WORDS)


def test_the_command_line_overrides_files_and_a_later_file_an_earlier_one(tmp_path):
    files = ["--config", written(tmp_path, "bs: 80\nlr: 1", "a"), "--config", written(tmp_path, "lr: 2\ndecay: 3", "b")]
    opt = get_options(["--bs", "40", *files, "--decay", "4"])
    assert (opt.bs, opt.lr, opt.decay) == (40, 2, 4)


def test_a_switch_of_a_file_is_off_again(tmp_path):
    path = written(tmp_path, "compile: true\nfreeze: false")
    opt = get_options(["--config", path, "--no-compile"])
    assert (opt.compile, opt.freeze) == (False, False)


def test_the_layers_of_defaults_follow_from_the_file(tmp_path):
    path = written(tmp_path, "recipe: paper\nloss: margin")
    assert vars(get_options(["--config", path])) == vars(get_options(["--recipe", "paper", "--loss", "margin"]))


@pytest.mark.parametrize("text,words", [
    ("los: margin", "line 1: los is not a flag. Did you mean loss?"),
    ("\nbs: many", "line 2: argument --bs: many is not a whole number"),
    ("memory: none\nbs:", "line 2: bs has no value"),
    ("bs: [1, 2]", "line 1: bs takes one value"),
    ("bs: {a: 1}", "nothing nested"),
    ("tau: [[1]]", "nothing nested"),
    ("[a]: 1", "nothing nested"),
    ("bs: 4\nlr: 1\nbs: 8", "line 3: bs is there twice"),
    ("memory: nune", "Did you mean none?"),
    ("loss_margin_nu: 1", "--loss_margin_nu has no effect with --loss smoothap"),
    ("debug: true", "line 1: debug stands on the command line alone"),
    ("config: other", "line 1: config stands on the command line alone"),
    ("wandb_key: x", "line 1: --wandb_key would leave your key"),
    ("- bs", "holds no flags"),
    ("!!python/object/apply:os.getcwd []", "holds no flags"),
    ("bs: 'x", "line 1: this is not YAML text"),
    ("[" * 3000, "this is not YAML text"),
])
def test_what_a_command_line_could_not_be_is_refused_with_its_line(tmp_path, capsys, text, words):
    path = written(tmp_path, text)
    assert refused(["--config", path]) == 2
    error = capsys.readouterr().err
    assert words in error and error.strip().count("\n") == 0


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_files_that_are_none_are_refused(tmp_path, capsys, content):
    path = tmp_path / "flags.yaml"
    if content:
        path.write_bytes(content)
    assert refused(["--config", str(path)]) == 2
    assert f"--config {path}" in capsys.readouterr().err


def test_an_empty_file_has_no_flags(tmp_path):
    assert vars(get_options(["--config", written(tmp_path, "# none")])) == vars(get_options([]))


OPTIONS = {"bs": 40, "loss": "margin", "loss_margin_beta": 0.7, "tensorboard": True}


def options_json(tmp_path):
    argv = ["--bs", "40", "--loss", "margin", "--loss_margin_beta", "0.7", "--tensorboard", "--save_path", "there"]
    return written(tmp_path, json.dumps({"flags": vars(get_options(argv))}), "options.json")


def test_of_a_run_the_flags_that_differ_from_the_defaults_count_as_typed(tmp_path):
    path = options_json(tmp_path)
    assert explicit_flags(["--config", path]) == OPTIONS
    opt = get_options(["--config", path, "--bs", "8"])
    assert (opt.bs, opt.loss_margin_beta, opt.save_path) == (8, 0.7, "runs")


def test_unlike_repeat_a_flag_of_the_file_is_refused_where_it_has_no_effect(tmp_path, capsys):
    path = options_json(tmp_path)
    assert get_options(["--repeat", path, "--loss", "smoothap"]).loss == "smoothap"
    assert refused(["--config", path, "--loss", "smoothap"]) == 2
    assert "--loss_margin_beta has no effect" in capsys.readouterr().err
    both = get_options(["--repeat", path, "--config", written(tmp_path, "bs: 16")])
    assert (both.bs, both.loss) == (16, "margin")


def test_the_file_of_a_run_is_checked_too(tmp_path, capsys):
    path = written(tmp_path, json.dumps({"flags": {"bs": "x"}}))
    assert refused(["--config", path]) == 2
    assert f"--config {path}: --bs cannot be 'x'" in capsys.readouterr().err
