"""The parser of every command."""
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
        kind = getattr(action.type, "kind", action.type)
        return {None: "NAME", str: "NAME", float: "X"}.get(kind, "N")
