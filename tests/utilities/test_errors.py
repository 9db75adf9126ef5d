"""Errors in a few words, and the exit codes of a command."""

import contextlib

import pytest

from utilities import errors
from utilities.errors import (
    BRIEF,
    RunError,
    Stopped,
    UsageError,
    answer,
    in_brief,
    naming_flags,
    reason,
)
from utilities.streams import OutputError


def raises(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    "error,code,words",
    [
        (UsageError("--a 1: wrong."), 2, "x: --a 1: wrong."),
        (RunError("The disk is full."), 1, "x: The disk is full."),
        (Stopped("Stopped by SIGTERM.", 143), 143, "x: Stopped by SIGTERM."),
        (KeyboardInterrupt(), 130, "x: Interrupted."),
        (KeyError("a"), 1, "x: KeyError: 'a' (--debug shows where it happened)"),
        (RunError("a\nb \x1b[2J"), 1, r"x: a\nb \x1b[2J"),
    ],
)
def test_every_error_is_one_line_and_an_exit_code(capsys, error, code, words):
    assert answer("x", raises(error)) == code
    assert capsys.readouterr().err == f"{words}\n"


def test_a_command_that_goes_well_says_nothing(capsys):
    assert answer("x", lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_debug_shows_where_it_happened():
    with pytest.raises(UsageError):
        answer("x", raises(UsageError("a")), debug=True)
    assert answer("x", raises(KeyboardInterrupt()), debug=True) == 130


def test_beside_a_progress_bar_of_another_process_a_line_begins_anew(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer("x", raises(RunError("a")))
    assert capsys.readouterr().err == "\nx: a\n"


def test_all_of_an_error_in_one_line():
    error = ValueError("\n First line.\n  Second line. ")
    assert in_brief(error) == "First line. Second line"
    assert in_brief(ValueError()) == "ValueError"
    assert in_brief(ValueError("x" * 999)) == "x" * BRIEF


def test_the_reason_of_the_system_is_found_behind_the_error_of_a_library():
    assert reason(OSError(28, "No space left on device")) == "No space left on device"
    assert reason(OSError("by hand")) == "by hand"
    try:
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("cannot write")
    except RuntimeError as error:
        assert reason(error) == "No space left on device"
    assert reason(RuntimeError("no\nspace.")) == "no space"


def test_flags_are_named_inside_a_command_alone_and_blocks_may_be_nested(monkeypatch):
    monkeypatch.setattr(errors, "_in_command", False)
    error = UsageError("--policy_samples 0 is too few.")
    with naming_flags():
        with naming_flags():
            pass
        assert str(error) == "--policy_samples 0 is too few."
    assert str(error) == "samples=0 is too few."
    with contextlib.suppress(KeyError), naming_flags():
        raise KeyError
    assert str(error) == "samples=0 is too few."


def test_a_command_that_ends_the_program_itself_does_so():
    with pytest.raises(SystemExit) as stop:
        answer("x", raises(SystemExit(7)))
    assert stop.value.code == 7


def test_debug_ends_a_stopped_run_as_ever(capsys):
    assert answer("x", raises(Stopped("Stopped.", 143)), debug=True) == 143
    assert capsys.readouterr().err == "x: Stopped.\n"


def test_an_interruption_has_the_sentence_of_the_command(capsys):
    assert answer("x", raises(KeyboardInterrupt()), interrupted="Nothing is lost.") == 130
    assert capsys.readouterr().err == "x: Nothing is lost.\n"


def test_an_output_that_cannot_be_written_is_an_error_of_the_run(capsys):
    assert answer("x", raises(OutputError("The output is full."))) == 1
    assert capsys.readouterr().err == "x: The output is full.\n"


@pytest.mark.parametrize("error,words", [
    (OSError(), "OSError"),
    (PermissionError(13, "Permission denied", "ä.pt"), "Permission denied"),
    (RuntimeError(""), "RuntimeError"),
    (RuntimeError(" a \n\t b. "), "a b"),
])
def test_a_reason_in_a_few_words(error, words):
    assert reason(error) == words


def test_the_reason_is_the_nearest_one_of_the_system():
    try:
        try:
            try:
                raise OSError(2, "No such file or directory")
            finally:
                raise OSError(28, "No space left on device")
        finally:
            raise ValueError("cannot write")
    except ValueError as error:
        assert reason(error) == "No space left on device"
