"""Tables that name images and their classes, such as labels.csv: the one reader of all commands."""
import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from utilities.errors import UsageError, reason

# Python reads no number of more than 4300 digits.
NUMBER = re.compile(r"[+-]?[0-9]{1,4000}(\.0*)?")


class Line(dict):
    """The cells of a line by column; table and number say where it stands, for messages."""

    def __init__(self, cells: dict[str, str], table: Path | str = "", number: int = 0):
        super().__init__(cells)
        self.number = number
        self.where = f"{table}, line {number}"


def read_lines(path: Path, needed: Sequence[str], filled: Sequence[str] = (),
               missing: str = "restore it.") -> list[Line]:
    """The lines of a table, which has the columns `needed`, none of their cells blank.

    Names of columns are taken in small letters; they and all cells are in Unicode's composed form
    (NFC), without spaces around. A column of `filled` may be absent, but not partly blank. missing:
    what to do where there is no such file. Raises UsageError.
    """
    return list(each_line(path, needed, filled, missing))


def each_line(path: Path, needed: Sequence[str], filled: Sequence[str] = (),
              missing: str = "restore it.") -> Iterator[Line]:
    """The lines of `read_lines` one after the other, for tables of millions."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [plain(name or "").lower() for name in reader.fieldnames or []]
            _check_columns(path, columns, needed)
            reader.fieldnames = columns
            for cells in reader:
                yield _line(path, reader.line_num, cells, [*needed, *filled])
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; {missing}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: this is not a csv table in UTF-8 ({error}); save it as "
                         "one.") from None
    except OSError as error:
        raise UsageError(f"{path}: this table cannot be read ({reason(error)}); allow "
                         "it.") from None


def _check_columns(path: Path, columns: list[str], needed: Sequence[str]) -> None:
    """The needed columns are there, and none stands twice."""
    missing = [name for name in needed if name not in columns]
    if missing:
        named = ",".join(filter(None, columns)) or "nothing"
        raise UsageError(f"{path}: there is no column {' and no column '.join(missing)}; the first "
                         f"line must name {','.join(needed)} (it names {named[:100]}).")
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise UsageError(f"{path}: the column {twice[0]} stands twice; leave one of them out.")


def _line(table: Path, number: int, cells: dict, filled: Sequence[str]) -> Line:
    where = f"{table}, line {number}"
    if any(cells.pop(None, ())):
        raise UsageError(f"{where}: there are more fields than columns; put quotes around a field "
                         "that holds a comma.")
    # the name of a file stays as the disk has it
    texts = {name: (value or "").strip() if name == "path" else plain(value or "")
             for name, value in cells.items()}
    empty = [name for name in filled if texts.get(name) == ""]
    if empty:
        raise UsageError(f"{where}: the {empty[0]} is empty; fill it in, or remove the line.")
    return Line(texts, table, number)


def plain(text: str) -> str:
    """A name in Unicode's composed form, without spaces around."""
    return unicodedata.normalize("NFC", text).strip()


def same_name(name: str) -> str:
    """What two spellings of one name have in common: 3, 03, +3 and 3.0 are one number."""
    text = plain(name)
    return str(int(text.partition(".")[0])) if NUMBER.fullmatch(text) else text


def refuse_spellings(names: Iterable[tuple[str, str]]) -> None:
    """A UsageError where one class is spelled in two ways; names: each with where it stands."""
    first: dict[str, tuple[str, str]] = {}
    for name, where in names:
        own, place = first.setdefault(same_name(name), (name, where))
        if own != name:
            raise UsageError(f"{where}: {name!a} and {own!a} ({place}) are one name in two "
                             "spellings; write the class alike everywhere.")
