"""Tables of any content are read as they were written; what is being written is left out."""
import csv
import errno
import math

import pytest

from utilities import table
from utilities.errors import RunError, UsageError
from utilities.logger import RunFolder
from utilities.table import GrowingTable, read_rows

# Of classes, which are the names of folders.
NAMES = ["猫", "a,b", 'say "a"', "a\nb", "a\r\nb", "a\rb", "a\u2028b", "a\x85b", "a\x0cb", " a "]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_as_it_was_written(tmp_path, name):
    folder = RunFolder.new(tmp_path, "glyphs", "a")
    folder.write_csv("per_class.csv", [{"class": name, "nmi": 1}, {"class": "b", "nmi": 2}])
    rows = read_rows(folder / "per_class.csv")
    assert rows == [{"class": name, "nmi": "1"}, {"class": "b", "nmi": "2"}]


@pytest.mark.parametrize("text,rows", [
    ("", []),
    ("step", []),
    ("step,loss\n", []),
    ("step,loss\n1,2", []),
    ("step,loss\n1,2\n3", [{"step": "1", "loss": "2"}]),
    ("step,loss\n1,2\n\n3,4\n", [{"step": "1", "loss": "2"}, {"step": "3", "loss": "4"}]),
    ("step,loss\n1\n", [{"step": "1", "loss": None}]),
    ("step,loss\n1,2,3\n", [{"step": "1", "loss": "2", None: ["3"]}]),
])
def test_a_last_line_without_its_end_is_left_out(tmp_path, text, rows):
    path = tmp_path / "steps.csv"
    path.write_text(text)
    assert read_rows(path) == rows


def test_no_file_has_no_rows_and_damaged_bytes_do_not_stop_the_reading(tmp_path):
    path = tmp_path / "steps.csv"
    assert read_rows(path) == []
    path.write_bytes(b"step,loss\n1,\xff\x00\n")
    assert read_rows(path) == [{"step": "1", "loss": "\ufffd\x00"}]


@pytest.mark.parametrize("after,kept", [
    (0, []),
    (1, ["1"]),
    (2, ["1", "2"]),
    (9, ["1", "2"]),
])
def test_a_table_is_continued_up_to_a_step(tmp_path, after, kept):
    path = tmp_path / "steps.csv"
    # what follows an unreadable step is not known to belong to the run
    path.write_text("step,loss\n1,a\n2,b\nnan,c\n3,d\n")
    GrowingTable(path, after=after)
    assert [row["step"] for row in read_rows(path)] == kept


@pytest.mark.parametrize("text", ["step,loss\n,2\n", "\n\n\n", "step,loss\n"])
def test_without_steps_it_begins_anew(tmp_path, text):
    path = tmp_path / "steps.csv"
    path.write_text(text)
    growing = GrowingTable(path, after=9)
    growing.append({"step": 5, "speed": 1.5})
    assert path.read_text() == "step,speed\n5,1.5\n"


@pytest.mark.parametrize("text", ["epoch,loss\n1,2\n", "step;loss\n1;2\n"])
def test_a_table_in_another_form_is_not_deleted(tmp_path, text):
    path = tmp_path / "steps.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match="has no column step"):
        GrowingTable(path, after=9)
    assert path.read_text() == text


def test_the_mark_of_a_spreadsheet_is_no_part_of_a_column(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text("\ufeffstep,loss\n1,2\n", encoding="utf-8")
    assert read_rows(path) == [{"step": "1", "loss": "2"}]


def test_fields_beyond_the_columns_are_dropped_and_missing_ones_stay_empty(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text("step,loss\n1\n2,3,4\n")
    GrowingTable(path, after=9).append({"loss": 7})
    assert path.read_text() == "step,loss\n1,\n2,3\n,7\n"


def test_a_line_can_be_read_at_once_and_a_new_column_keeps_those_before(tmp_path):
    path = tmp_path / "steps.csv"
    growing = GrowingTable(path, after=0)
    assert not path.exists()
    growing.append({"step": 1, "loss": math.nan})
    assert read_rows(path) == [{"step": "1", "loss": "nan"}]
    growing.append({"step": 2, "note": "a, b"})
    growing.append({"note": "c"})
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines == [
        ["step", "loss", "note"],
        ["1", "nan", ""],
        ["2", "", "a, b"],
        ["", "", "c"],
    ]


def test_a_full_disk_keeps_the_table_and_is_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "steps.csv"
    growing = GrowingTable(path, after=0)
    growing.append({"step": 1})
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(table, "replacing_text", full)
    with pytest.raises(RunError) as caught:
        growing.append({"step": 2, "loss": 1})
    sentence = f"{path} cannot be written (No space left on device). Free space; --resume then "
    assert str(caught.value) == f"{sentence}continues from the last checkpoint."
    assert path.read_bytes() == before
