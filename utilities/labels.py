"""Tables that name images and their classes, such as labels.csv: the one reader of all commands."""
import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from utilities.cells import plain_text
from utilities.errors import UsageError, reason

# Python reads no number of more than 4300 digits.
NUMBER = re.compile(r"[+-]?[0-9]{1,4000}(\.0*)?")


class Line(dict):
    """The cells of a line by column; table and number say where it stands, for messages."""

    def __init__(self, cells: dict[str, str], table: Path | str = "", number: int = 0):
        super().__init__(cells)
        self.table = table
        self.number = number

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.table}, line {self.number}"


def read_lines(path: Path, needed: Sequence[str], filled: Sequence[str] = (),
               missing: str = "restore it.") -> list[Line]:
    """The lines of a table, which has the columns `needed`, none of their cells blank.

    Names of columns are taken in small letters; they and all cells are in Unicode's composed form
    (NFC), without spaces around, and but for paths without the ' that keeps a spreadsheet from
    computing them. A column of `filled` may be absent, but not partly blank. missing:
    what to do where there is no such file. Raises UsageError.
    """
    return list(each_line(path, needed, filled, missing))


def each_line(path: Path, needed: Sequence[str], filled: Sequence[str] = (),
              missing: str = "restore it.") -> Iterator[Line]:
    """The lines of `read_lines` one after the other, for tables of millions."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # a DictReader takes twice the time, and builds a dict that is thrown away
            # strict: a quote that is never closed would swallow all that follows
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            columns = [plain(name).lower() for name in next(reader, [])]
            _check_columns(path, columns, needed)
            filled = [name for name in columns if name in (*needed, *filled)]
            for cells in filter(None, reader):
                yield _line(path, reader.line_num, columns, cells, filled)
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


def _line(table: Path, number: int, columns: list[str], cells: list[str],
          filled: Sequence[str]) -> Line:
    line = Line(dict.fromkeys(columns, ""), table, number)
    if any(cells[len(columns):]):
        raise UsageError(f"{line.where}: there are more fields than columns; put quotes around a field "
                         "that holds a comma.")
    for name, cell in zip(columns, cells):
        # the name of a file stays as the disk has it
        line[name] = cell.strip() if name == "path" else plain(cell)
        # asked first, since the call takes as long as all the rest
        if cell[:1] == "'" and name != "path":
            line[name] = plain_text(line[name])
    for name in filled:
        if not line[name]:
            raise UsageError(f"{line.where}: the {name} is empty; fill it in, or remove the line.")
    return line


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


def refuse_two_classes(first: Line, line: Line) -> None:
    """A UsageError where two lines of one label have different classes."""
    if first.get("class") != line.get("class"):
        raise UsageError(f"{line.where}: label {line['label']!r} has the class {line['class']!r} here and "
                         f"{first['class']!r} in line {first.number}; give a label one class.")
