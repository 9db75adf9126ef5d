"""The errors that a user can cause, and how a command answers them: one sentence and an exit code."""
import os
import sys
from collections.abc import Callable


class UsageError(Exception):
    """The command asks for something that cannot be done as written (exit code 2)."""


class RunError(Exception):
    """The command was right, but something failed while it ran (exit code 1)."""


class Stopped(Exception):
    """The command was asked to stop, and did so with nothing lost; its exit code is 128 plus the signal's number."""

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code


def answer(program: str, command: Callable[[], None], *, debug: bool = False, interrupted: str = "Interrupted.") -> int:
    """Run a command; returns 0 when all went well, 2 for wrong usage, 1 for what failed while running, 130 when it was
    interrupted, 143 when it was terminated. `debug` raises instead."""
    try:
        command()
        return 0
    except KeyboardInterrupt:
        problem, code = interrupted, 130
    except Stopped as stop:
        problem, code = str(stop), stop.code
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, UsageError | RunError)
        problem = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where it happened)"
        code = 2 if isinstance(error, UsageError) else 1
    print(f"{_own_line()}{program}: {one_line(problem)}", file=sys.stderr)
    return code


def one_line(text: str) -> str:
    """A sentence that any terminal can show: of the names of files in it, line ends and bytes that are no UTF-8 are
    escaped."""
    return text.replace("\r", "\\r").replace("\n", "\\n").encode("utf-8", "backslashreplace").decode("utf-8")


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that it may add; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def reason(error: OSError) -> str:
    """Why the system refused, such as 'No space left on device'."""
    return error.strerror or first_line(error)


def _own_line() -> str:
    """What ends the line that another process, whose progress bar shares the terminal, may have begun."""
    return "\n" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
