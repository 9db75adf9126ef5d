"""The errors that a user can cause, and how a command answers them: one sentence and an exit code."""
import os
import sys
from collections.abc import Callable

from utilities.text import printable

BRIEF = 150  # characters


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
    print(f"{_own_line()}{program}: {printable(problem)}", file=sys.stderr)
    return code


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that it may add; its kind where it says nothing."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def in_brief(error: BaseException) -> str:
    """What an error says, all on one line and cut after BRIEF characters; its kind if it says nothing."""
    text = " ".join(str(error).split()).rstrip(".")
    return text[:BRIEF] or type(error).__name__


def reason(error: BaseException) -> str:
    """Why the system refused, such as 'No space left on device', also where a library's error hides that."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__context__
    return in_brief(error)


def _own_line() -> str:
    """What ends the line that another process, whose progress bar shares the terminal, may have begun."""
    return "\n" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
