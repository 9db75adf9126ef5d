"""The parser of every command, and the types of the numbers that flags take."""
import argparse
import difflib
import sys
from collections.abc import Mapping


class Parser(argparse.ArgumentParser):
    """An argparse parser that answers a mistake with one sentence instead of a page of usage.

    refused: flags that cannot exist, each with the sentence that says what to do instead.
    """

    def __init__(self, *arguments, refused: Mapping[str, str] | None = None, **keywords):
        super().__init__(*arguments, **keywords)
        self.refused = dict(refused or {})

    def error(self, message: str):
        """Print the sentence, with the closest flag for an unknown one, and exit with code 2."""
        if message.startswith("unrecognized arguments: "):
            word = message.split(": ")[1].split()[0].partition("=")[0]
            close = difflib.get_close_matches(word, self._option_string_actions, n=1)
            message = f"{word} is not a flag." + (f" Did you mean {close[0]}?" if close else "")
            message = self.refused.get(word, message)
        program = self.prog.split()[-1]
        sys.stderr.write(f"{program}: {message} ({self.prog} --help lists every flag)\n")
        sys.exit(2)


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names a value by its kind and shows a default only where it says something."""

    def _get_help_string(self, action: argparse.Action) -> str:
        silent = action.default is None or action.default is False or action.default in ("", ())
        return action.help if silent else super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return {None: "NAME", str: "NAME", float: "X"}.get(action.type, "N")


def positive_int(text: str) -> int:
    """A whole number of at least one."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def non_negative_int(text: str) -> int:
    """A whole number of at least zero."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return int(text)


def share(text: str) -> float:
    """A number strictly between zero and one."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return float(text)


def non_negative(text: str) -> float:
    """A finite number of at least zero."""
    if not 0 <= float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return float(text)


def finite(text: str) -> float:
    """A finite number."""
    if not abs(float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return float(text)


def positive(text: str) -> float:
    """A finite number above zero."""
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return float(text)


def below_one(text: str) -> float:
    """A number of at least zero and less than one."""
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and less than 1")
    return float(text)


positive_int.__name__ = non_negative_int.__name__ = "whole number"
share.__name__ = "share"
non_negative.__name__ = positive.__name__ = finite.__name__ = below_one.__name__ = "number"
