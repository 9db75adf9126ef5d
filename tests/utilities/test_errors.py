"""Errors in a few words, and the exit codes of a command."""

import pytest

from utilities.errors import (
    BRIEF,
    RunError,
    Stopped,
    UsageError,
    answer,
    first_line,
    in_brief,
    reason,
)


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


def test_the_first_line_of_an_error_and_all_of_it():
    error = ValueError("\n First line.\n  Second line. ")
    assert first_line(error) == "First line."
    assert in_brief(error) == "First line. Second line"
    assert first_line(ValueError()) == in_brief(ValueError()) == "ValueError"
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
