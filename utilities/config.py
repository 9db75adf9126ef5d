"""Flags in a YAML file: each entry becomes the words that the command line would have.

The text of a value counts as it stands, so that `memory_decode: off` is off and not false. Nothing
of YAML's types is built.
"""
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from utilities.command_line import Parser
from utilities.errors import UsageError
from utilities.registry import did_you_mean
from utilities.text import printable

# What a file cannot decide.
COMMAND_LINE = {"config", "debug", "help", "list"}
TRUE = {"true", "yes", "on"}
FALSE = {"false", "no", "off"}


class Entry(NamedTuple):
    """A flag's name in a file with its values as text; where: the file and the line."""

    where: str
    name: str
    values: list[str]
    is_list: bool


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """The files of --config among the words of a command line, and all other words."""
    finder = Parser(prog="main.py", add_help=False, allow_abbrev=False)
    finder.add_argument("--config", action="append", default=[])
    known, rest = finder.parse_known_args(words)
    return known.config, rest


def words_of(parser: Parser, entries: Iterator[Entry]) -> list[str]:
    """The words of the entries; a wrong one ends the program with a sentence that names its line."""
    words = []
    for entry in entries:
        refuse(parser, entry)
        flag = typed(parser, entry)
        parser.where = f"{entry.where}: "
        parser.parse_words(flag)
        words += flag
    parser.where = ""
    return words


def refuse(parser: Parser, entry: Entry) -> None:
    """A UsageError for an entry that is no flag, or has no value, or more than the flag takes."""
    shown = printable(entry.name)[:40]
    known = parser.flags()
    if entry.name in COMMAND_LINE:
        raise UsageError(f"{entry.where}: {shown} stands on the command line alone; remove it here.")
    if entry.name not in known:
        raise UsageError(f"{entry.where}: {shown} is not a flag.{did_you_mean(entry.name, known)} "
                         "(main.py --help lists every flag)")
    if not entry.is_list and entry.values[0] in ("", "~", "null"):
        raise UsageError(f"{entry.where}: {shown} has no value; give it one, or remove the line.")
    if entry.is_list and known[entry.name].nargs in (None, 0):
        raise UsageError(f"{entry.where}: {shown} takes one value, not a list.")


def typed(parser: Parser, entry: Entry) -> list[str]:
    """The words of one flag."""
    flag = f"--{entry.name}"
    action = parser.flags()[entry.name]
    if entry.is_list:
        return [flag, *entry.values]
    value = entry.values[0]
    if action.nargs == 0 and value.lower() in TRUE:
        return [flag]
    if action.nargs == 0 and value.lower() in FALSE:
        off = f"--no-{entry.name}"
        return [off] if off in action.option_strings else [f"{flag}=False"]
    return [f"{flag}={value}"]


def entries_of(path: str) -> Iterator[Entry]:
    """The entries of a YAML file; a UsageError where it is none, or not of names with values."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise UsageError(f"--config {path}: there is no such file.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"--config {path}{place}: this is not YAML text that can be read; give one "
                         "flag a line, such as bs: 80.") from None
    if document is None:
        return
    if not isinstance(document, yaml.MappingNode):
        raise UsageError(f"--config {path} holds no flags; give one a line, such as bs: 80.")
    seen = set()
    for key, value in document.value:
        where = f"--config {path}, line {key.start_mark.line + 1}"
        name = scalar(key, where)
        if name in seen:
            raise UsageError(f"{where}: {printable(name)[:40]} is there twice; remove one.")
        seen.add(name)
        is_list = isinstance(value, yaml.SequenceNode)
        parts = value.value if is_list else [value]
        yield Entry(where, name, [scalar(part, where) for part in parts], is_list)


def scalar(node, where: str) -> str:
    """The text of a node of YAML; a UsageError where it is a mapping or a list."""
    if not isinstance(node.value, str):
        raise UsageError(f"{where}: a flag takes a value or a list of values, and nothing nested.")
    return node.value


def recorded(path: str, flags: dict) -> Iterator[Entry]:
    """The entries for the flags of a run's options.json."""
    for name, value in flags.items():
        is_list = isinstance(value, list | tuple)
        parts = value if is_list else [value]
        yield Entry(f"--config {path}", name, [str(part) for part in parts], is_list)
