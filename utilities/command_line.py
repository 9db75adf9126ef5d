"""The parser of every command."""
import argparse
import os
import sys
from collections.abc import Callable, Iterable

from utilities.registry import did_you_mean


class Parser(argparse.ArgumentParser):
    """An argparse parser that answers a mistake with one sentence instead of a page of usage.

    rename: called with the parsed flags, to replace values that have another name now.
    expand: called with the parser and the words of the command line; gives those that count.
    """

    # what an error begins with: the place in a file that is being read
    where = ""

    def __init__(
        self,
        *arguments,
        rename: Callable | None = None,
        expand: Callable | None = None,
        **keywords,
    ):
        super().__init__(*arguments, **keywords)
        self.rename = rename
        self.expand = expand

    def parse_known_args(self, args=None, namespace=None):
        """As argparse does, but with True after a switch, with ~ after =, and with the names of now.
        """
        words = list(sys.argv[1:] if args is None else args)
        if self.expand:
            words = self.expand(self, words)
        return self.parse_words(words, namespace)

    def parse_words(self, words: Iterable[str], namespace=None):
        """As parse_known_args, for words that need no expansion."""
        words = map(_expanded, words)
        namespace, rest = super().parse_known_args(self.bare_switches(words), namespace)
        if self.rename:
            self.rename(namespace)
        return namespace, rest

    def flags(self) -> dict[str, argparse.Action]:
        """The action of every flag by its name without the dashes."""
        actions = self._option_string_actions.items()
        return {name[2:]: action for name, action in actions if name.startswith("--")}

    def bare_switches(self, words: Iterable[str]) -> list[str]:
        """The words without the True of `--switch True` and `--switch=True`; False is refused."""
        kept = []
        for word in words:
            name, _, value = word.rpartition("=")
            if not name and kept:
                name = kept[-1]
            action = self._option_string_actions.get(name)
            is_value = action and action.nargs == 0 and value in ("True", "False")
            if is_value and value == "False":
                self.error(f"{name} is a switch: {self._off(name)} where it should be off")
            if not is_value:
                kept.append(word)
            elif "=" in word:
                kept.append(name)
        return kept

    def _off(self, switch: str) -> str:
        """What to do for a switch to be off, which some are only where that is said."""
        opposite = f"--no-{switch[2:]}"
        return f"pass {opposite}" if opposite in self._option_string_actions else "leave it out"

    def error(self, message: str):
        """Print the sentence, with the closest flag for an unknown one, and exit with code 2."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            # an empty word, as of a variable of the shell that is not set
            words = unknown.split() or ["''"]
            word = words[0].partition("=")[0] or words[0]
            message = f"{word} is not a flag.{did_you_mean(word, self._option_string_actions)}"
        program = self.prog.split()[-1]
        sys.stderr.write(f"{program}: {self.where}{message} ({self.prog} --help lists every flag)\n")
        sys.exit(2)


def _expanded(word: str) -> str:
    """A word of the command line, --flag=~/x with the home folder; shells know it after a space.
    """
    flag, equals, value = word.partition("=")
    if flag.startswith("--") and value.startswith("~"):
        return flag + equals + os.path.expanduser(value)
    return word


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names a value by its kind and shows a default only where it says something."""

    def _get_help_string(self, action: argparse.Action) -> str:
        silent = action.default is None or action.default is False or action.default in ("", ())
        return action.help if silent else super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kind = getattr(action.type, "kind", action.type)
        return {None: "NAME", str: "NAME", float: "X"}.get(kind, "N")


def command_parser(program: str, description: str) -> Parser:
    """The parser of `python -m program`, with --debug."""
    parser = Parser(
        prog=f"python -m {program}",
        formatter_class=Formatter,
        allow_abbrev=False,
        description=description,
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="Show the traceback of an error instead of one sentence.",
    )
    return parser
