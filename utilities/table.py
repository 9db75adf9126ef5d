"""Tables as CSV files: one that grows by a line at a time, and the reading of any."""
import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from utilities.errors import RunError, UsageError, reason
from utilities.files import replacing_text


def read_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table; none where there is no file.

    A last line without its end, which is still being written, is left out.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        whole, end, _ = file.read().rpartition("\n")
    # a cell may hold line ends, so that lines are not split here
    return list(csv.DictReader(io.StringIO(whole + end, newline="")))


class GrowingTable:
    """A CSV file that gains a line at a time and can be read meanwhile; each line is flushed.

    path: continued where it exists, up to the last line whose column `step` is at most `after`.
    What follows was written by a run that went on beyond its checkpoint, or was being written when
    it was killed; it is deleted.
    """

    def __init__(self, path: Path, *, after: int):
        self.path = path
        self.columns: list[str] = []
        if path.exists():
            rows = read_rows(path)
            if rows and "step" not in rows[0]:
                raise UsageError(f"{path} has no column step, so that it cannot be continued; restore it as "
                                 "it was written, or move it away.")
            rows = _rows_until(after, rows)
            self.columns = [name for name in rows[0] if name] if rows else []
            self._rewrite(rows)

    def append(self, row: dict) -> None:
        """Add a line; a column that is new in it is added to all."""
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite([*read_rows(self.path), row])
            return
        with self._errors(), open(self.path, "a", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(row)

    def _rewrite(self, rows: list[dict]) -> None:
        """All rows anew, whole or not at all."""
        with self._errors(), replacing_text(self.path) as file:
            writer = self._writer(file)
            writer.writeheader()
            writer.writerows(rows)

    def _writer(self, file) -> csv.DictWriter:
        return csv.DictWriter(file, self.columns, extrasaction="ignore", lineterminator="\n")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written ({reason(error)}). Free space; --resume then "
                "continues from the last checkpoint."
            ) from error


def _rows_until(last: int, rows: list[dict]) -> list[dict]:
    """The rows up to step `last`, or to one whose step is unreadable."""
    for i, row in enumerate(rows):
        try:
            beyond = int(row["step"]) > last
        except (KeyError, TypeError, ValueError):
            beyond = True
        if beyond:
            return rows[:i]
    return rows
