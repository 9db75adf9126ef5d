"""The parser of every command: switches, the home folder, help, and mistakes in one sentence."""
import argparse
import sys

import pytest

from utilities.command_line import Formatter, Parser
from utilities.ranges import positive_int

OFF = argparse.BooleanOptionalAction


def parser(**keywords):
    made = Parser(prog="python -m evaluation.thing", formatter_class=Formatter, **keywords)
    made.add_argument("--bs", type=positive_int, default=112, help="Images.")
    made.add_argument("--lr", type=float, default=0.5, help="Rate.")
    made.add_argument("--name", default="", help="Word.")
    made.add_argument("--place", help="Folder.")
    made.add_argument("--tau", type=int, nargs="+", default=(), help="Epochs.")
    made.add_argument("--fast", action="store_true", help="Fast.")
    made.add_argument("--figures", action=OFF, default=True, help="Pictures.")
    return made


def parsed(*words, **keywords):
    return vars(parser(**keywords).parse_args(words))


@pytest.mark.parametrize("words,flag,value", [
    ([], "fast", False),
    (["--fast"], "fast", True),
    (["--fast", "True"], "fast", True),
    (["--fast=True"], "fast", True),
    (["--fast", "True", "--bs", "3"], "bs", 3),
    (["--figures", "True"], "figures", True),
    (["--figures=True"], "figures", True),
    (["--no-figures"], "figures", False),
    (["--no-figures", "True"], "figures", False),
    (["--name", "True"], "name", "True"),
    (["--name=False"], "name", "False"),
    (["--name", "a=True"], "name", "a=True"),
])
def test_true_after_a_switch_is_the_switch(words, flag, value):
    assert parsed(*words)[flag] == value


@pytest.mark.parametrize("words,sentence", [
    (["--fast", "False"], "--fast is a switch: leave it out where it should be off"),
    (["--fast=False"], "--fast is a switch: leave it out where it should be off"),
    (["--figures", "False"], "--figures is a switch: pass --no-figures where it should be off"),
    (["--figures=False"], "--figures is a switch: pass --no-figures where it should be off"),
    (["--fsat"], "--fsat is not a flag. Did you mean --fast?"),
    (["--fsat=3", "--other"], "--fsat is not a flag. Did you mean --fast?"),
    (["--xyz"], "--xyz is not a flag."),
    (["word"], "word is not a flag."),
    (["True"], "True is not a flag."),
    ([""], "'' is not a flag."),
    ([" \t"], "'' is not a flag."),
    (["", "--bs", "3"], "'' is not a flag."),
    (["=3"], "=3 is not a flag."),
    (["a: b"], "a: is not a flag."),
    (["ä猫"], "ä猫 is not a flag."),
    (["--bs"], "argument --bs: expected one argument"),
    (["--lr", "x"], "argument --lr: invalid float value: 'x'"),
    (["--fast", "yes"], "yes is not a flag."),
])
def test_a_mistake_is_one_sentence_and_exit_code_2(capsys, words, sentence):
    with pytest.raises(SystemExit) as stop:
        parsed(*words)
    assert stop.value.code == 2
    out, error = capsys.readouterr()
    help_is = "(python -m evaluation.thing --help lists every flag)"
    assert error == f"evaluation.thing: {sentence} {help_is}\n"
    assert out == ""


def test_a_sentence_begins_with_the_place_that_is_read(capsys):
    made = parser()
    made.where = "flags.yaml, line 3: "
    with pytest.raises(SystemExit):
        made.parse_args(["--bs", "x"])
    assert capsys.readouterr().err.startswith("evaluation.thing: flags.yaml, line 3: argument --bs")


@pytest.mark.parametrize("word,value", [
    ("--place=~/runs", "/home/me/runs"),
    ("--place=~", "/home/me"),
    ("--place=a~b", "a~b"),
    ("--place=~no_such_user/a", "~no_such_user/a"),
    ("--place=/a=~", "/a=~"),
])
def test_the_home_folder_after_an_equals_sign(monkeypatch, word, value):
    monkeypatch.setenv("HOME", "/home/me")
    assert parsed(word)["place"] == value


def test_a_word_of_its_own_is_left_to_the_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parsed("--place", "~/runs")["place"] == "~/runs"


def test_words_are_expanded_before_and_values_renamed_after_parsing():
    seen = []

    def expand(asked, words):
        seen.append((type(asked), words))
        return [*words, "--bs", "7"]

    def rename(flags):
        flags.name = flags.name.upper()

    flags = parsed("--name", "a", expand=expand, rename=rename)
    assert (flags["name"], flags["bs"]) == ("A", 7)
    assert seen == [(Parser, ["--name", "a"])]
    made = parser(expand=expand, rename=rename)
    known, rest = made.parse_words(["--name", "b", "--more"])
    assert (known.name, known.bs, rest) == ("B", 112, ["--more"])
    assert len(seen) == 1


def test_without_words_those_of_the_program_are_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", "--fast", "True", "--place=~x", "--bs", "5"])
    flags = parser().parse_args()
    assert (flags.fast, flags.bs) == (True, 5)


def test_flags_by_their_names():
    flags = parser().flags()
    names = {"help", "bs", "lr", "name", "place", "tau", "fast", "figures", "no-figures"}
    assert flags.keys() == names
    assert flags["no-figures"] is flags["figures"]
    assert flags["tau"].nargs == "+"


def test_help_shows_kinds_and_only_defaults_that_say_something():
    lines = [" ".join(line.split()) for line in parser().format_help().splitlines()]
    for line in (
        "--bs N Images. (default: 112)",
        "--lr X Rate. (default: 0.5)",
        "--name NAME Word.",
        "--place NAME Folder.",
        "--tau N [N ...] Epochs.",
        "--fast Fast.",
    ):
        assert line in lines
