"""The errors that a user can cause; a command answers with one sentence and an exit code."""
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator

from utilities.streams import OutputError, shown
from utilities.text import printable

BRIEF = 150  # characters


_in_command = False


@contextlib.contextmanager
def naming_flags() -> Iterator[None]:
    """Inside, errors name flags, as a command does; elsewhere the arguments behind them."""
    global _in_command
    before = _in_command
    _in_command = True
    try:
        yield
    finally:
        _in_command = before


class NamedError(Exception):
    """An error whose text is written with flags."""

    def __str__(self) -> str:
        text = super().__str__()
        if _in_command or "--" not in text:
            return text
        # it reads the registries by a module that raises these errors
        from utilities.arguments import in_arguments

        return in_arguments(text)


class UsageError(NamedError):
    """The command asks for something that cannot be done as written (exit code 2)."""


class RunError(NamedError):
    """The command was right, but something failed while it ran (exit code 1)."""


class Stopped(Exception):
    """The command was told to stop, and did so with nothing lost.

    Its exit code is 128 plus the signal's number.
    """

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code


def answer(
    program: str,
    command: Callable[[], None],
    *,
    debug: bool = False,
    interrupted: str = "Interrupted.",
) -> int:
    """Run a command and print its error as one sentence; `debug` raises it instead.

    Returns 0 when all went well, 2 for wrong usage, 1 for what failed while running, 130 when it
    was interrupted, 143 when it was terminated, 129 when its terminal was closed.
    """
    # of damaged EXIF blocks, unusual palettes and the like, for each image
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with shown(), naming_flags():
        try:
            command()
            return 0
        except KeyboardInterrupt:
            problem = interrupted
            code = 130
        except Stopped as stop:
            problem = str(stop)
            code = stop.code
        except Exception as error:
            if debug:
                raise
            problem = str(error)
            if not isinstance(error, UsageError | RunError | OutputError):
                problem = f"{type(error).__name__}: {error} (--debug shows where it happened)"
            code = 2 if isinstance(error, UsageError) else 1
        # A progress bar of another process may have begun a line on the same terminal.
        start = "\n" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
        print(f"{start}{program}: {printable(problem)}", file=sys.stderr)
        return code


def in_brief(error: BaseException) -> str:
    """What an error says, on one line of at most BRIEF characters; its kind if it says nothing."""
    text = " ".join(str(error).split()).rstrip(".")
    return text[:BRIEF] or type(error).__name__


def reason(error: BaseException) -> str:
    """Why the system refused, such as 'No space left on device', even behind a library's error."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__context__
    return in_brief(error)
