"""What a command shows, and what a closed or full stream does to it."""
import io
import os
import pty
import subprocess
import sys

import pytest

from utilities.bars import new_bar
from utilities.errors import answer
from utilities.streams import Shown

TALK = """
import sys, warnings
from utilities.errors import answer

def command():
    for i in range(20000):
        print("line", i)
        print("aside", i, file=sys.stderr)
    open(sys.argv[1], "w").write("done")

sys.exit(answer("x", command))
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "done"


def bash(line, place):
    """Exit code of the command in a line of bash, and what the line prints."""
    words = ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}", sys.executable, TALK, str(place)]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


COMMAND = '"$0" -c "$1" "$2"'


@pytest.mark.parametrize("line, out", [
    (f"{COMMAND} 2>/dev/null | head -1", "line 0\n"),
    (f"{COMMAND} 2>&1 >/dev/null | head -1", "aside 0\n"),
    (f"{COMMAND} 2>&1 | head -1", "line 0\n"),
    (f"{COMMAND} >&-  2>&-", ""),
    (f"{COMMAND} 2>&- >/dev/null", ""),
    (f"{COMMAND} 2>/dev/full >/dev/null", ""),
    (f"{COMMAND} <&- >/dev/null 2>&1", ""),
])
def test_a_closed_stream_does_not_stop_a_command(place, line, out):
    assert bash(line, place) == (0, out, "")
    assert place.read_text() == "done"


def test_a_full_output_is_named(place):
    code, _, said = bash(f"{COMMAND} >/dev/full", place)
    assert code == 1
    sentence = said.splitlines()[-1]
    assert sentence.startswith("x: The output (stdout) cannot be written (No space left on device)")
    assert not place.exists()


def test_a_terminal_that_is_gone_does_not_stop_a_command(place):
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", TALK, str(place)]
    with subprocess.Popen(words, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.read(ours, 10)
        os.close(ours)
    assert process.returncode == 0
    assert place.read_text() == "done"


def test_escape_sequences_are_shown_and_lines_stay(capsys):
    def command():
        print("a\x1b[2J\nb")
        print("c\x9b31m", file=sys.stderr)
    assert answer("x", command) == 0
    assert capsys.readouterr() == ("a\\x1b[2J\nb\n", "c\\x9b31m\n")


def test_what_the_encoding_lacks_is_shown():
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("18 ± 2", file=Shown(raw, "it"))
    assert raw.buffer.getvalue() == b"18 \\xb1 2\n"


def test_streams_are_as_before_afterwards():
    before = (sys.stdout, sys.stderr)
    answer("x", lambda: None)
    assert (sys.stdout, sys.stderr) == before


def test_pillows_warnings_are_not_shown(tmp_path):
    lines = """
import sys, warnings
from utilities.errors import answer

def command():
    for name in ("PIL.TiffImagePlugin", "datasets.cache"):
        warnings.warn_explicit(f"of {name}", UserWarning, "file.py", 1, module=name)

answer("x", command)
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert "of PIL" not in done.stderr
    assert "of datasets.cache" in done.stderr


def test_bars_are_for_terminals(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", Shown(terminal, None))
    list(new_bar(range(3), desc="bar"))
    assert terminal.getvalue() == ""
    terminal.isatty = lambda: True
    list(new_bar(range(3), desc="bar", hidden=True))
    assert terminal.getvalue() == ""
    list(new_bar(range(3), desc="bar"))
    # it is gone when it is full
    assert terminal.getvalue().endswith(" \r")
    list(new_bar(range(3), desc="bar", leave=True))
    # it returns to the beginning of its line
    assert "\rbar: 100%" in terminal.getvalue()
