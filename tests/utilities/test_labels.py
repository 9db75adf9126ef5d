"""The one reader of tables of images: spellings, blank cells, columns."""
import unicodedata

import numpy as np
import pytest

from evaluation import score
from evaluation.search.embedded_set import read_set
from utilities.errors import UsageError
from utilities.labels import each_line, read_lines, refuse_spellings, same_name

ROWS = np.random.default_rng(0).normal(size=(8, 3))
CAFE = unicodedata.normalize("NFC", "café")
CAFE_APART = unicodedata.normalize("NFD", "café")


def table(folder, head, *lines, name="labels.csv"):
    path = folder / name
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def refused(path, needed=("label",), filled=("class",)):
    with pytest.raises(UsageError) as caught:
        read_lines(path, needed, filled)
    return str(caught.value)


@pytest.mark.parametrize("head", ["label", " label ", "Label", "LABEL", "\ufefflabel", '"label"'])
def test_headers_are_read_whatever_their_case_and_spaces(tmp_path, head):
    lines = read_lines(table(tmp_path, head, "3", " 3", "3 ", "\t3"), ["label"])
    assert lines == [{"label": "3"}] * 4
    assert lines[2].where.endswith("labels.csv, line 4")


def test_composed_and_decomposed_letters_are_one_name(tmp_path):
    assert CAFE != CAFE_APART
    lines = read_lines(table(tmp_path, "label", CAFE, CAFE_APART), ["label"])
    assert lines[0] == lines[1] == {"label": CAFE}


def test_what_keeps_spreadsheets_from_computing_a_class_is_no_part_of_it(tmp_path):
    lines = read_lines(table(tmp_path, "label", "'=a", "'-1", "''=a", "'a", "-1"), ["label"])
    assert [line["label"] for line in lines] == ["=a", "-1", "'=a", "'a", "-1"]
    lines = read_lines(table(tmp_path, "path", "'=a.png"), ["path"])
    assert lines[0]["path"] == "'=a.png"


def test_the_name_of_a_file_stays_as_the_disk_has_it(tmp_path):
    path = table(tmp_path, "path,label", f"{CAFE_APART}.png,a")
    assert read_lines(path, ["path"])[0]["path"] == f"{CAFE_APART}.png"


def test_what_is_wrong_is_said_with_its_line(tmp_path):
    assert "line 3: the class is empty" in refused(table(tmp_path, "label,class", "0,a", "1, "))
    assert "line 2: the label is empty" in refused(table(tmp_path, "label,class", ",a"))
    assert "line 3: there are more fields" in refused(table(tmp_path, "label", "0", "0,1"))
    assert "column label stands twice" in refused(table(tmp_path, "label, LABEL", "0,1"))
    assert "it names path,klass" in refused(table(tmp_path, "path,klass", "0,1"))
    assert "no such file" in refused(tmp_path / "none.csv")


@pytest.mark.parametrize(("name", "other"), [
    ("3", "3.0"), ("3", "03"), ("0", "000.0"), ("12", "+12"), ("-1", "-01"), (CAFE, CAFE_APART)])
def test_two_spellings_of_one_name_are_refused(name, other):
    with pytest.raises(UsageError) as caught:
        refuse_spellings([(name, "line 2"), ("x", "line 3"), (other, "line 4")])
    for word in (ascii(name), ascii(other), "line 2", "line 4"):
        assert word in str(caught.value)


def test_different_names_stay_different():
    names = ["3", "3.5", "30", "3a", "003.Bird", "1e3", "1000", "", "cat", "Cat", "٣"]
    assert len({same_name(name) for name in names}) == len(names)
    refuse_spellings((name, "") for name in names * 2)


def test_spellings_of_a_gallery_are_compared_with_those_of_the_queries(tmp_path, capsys):
    for name, spelled in (("q", "{}"), ("g", "{}.0")):
        np.save(tmp_path / f"{name}.npy", ROWS)
        labels = [spelled.format(i // 2) for i in range(8)]
        table(tmp_path, "label", *labels, name=f"{name}.csv")
    files = [str(tmp_path / name) for name in ("q.npy", "q.csv", "g.npy", "g.csv")]
    assert score.main([*files[:2], "--gallery", *files[2:], "--metrics", "e_recall@1"]) == 2
    said = capsys.readouterr().err
    assert "'0.0' and '0'" in said and "g.csv, line 2" in said and "q.csv, line 2" in said


def test_score_and_search_read_one_table_alike(tmp_path):
    np.save(tmp_path / "embeddings.npy", ROWS)
    labels = [f"a{i}.png, {i // 2} ,{CAFE_APART} " for i in range(8)]
    path = table(tmp_path, " Path ,LABEL, Class", *labels)
    lines = score.read_table(str(path), 8)
    assert read_set(str(tmp_path)).lines == lines
    assert lines[5] == {"path": "a5.png", "label": "2", "class": CAFE}


def test_a_name_of_many_digits_is_a_name():
    long = "9" * 5000
    assert same_name(long) == long and same_name("0" * 3999 + "7") == "7"


@pytest.mark.parametrize("content,cells", [
    (b"path,label\n", []),
    (b"path,label", []),
    (b"path,label\r\na,1\r\n", [{"path": "a", "label": "1"}]),
    (b"path,label\ra,1\r", [{"path": "a", "label": "1"}]),
    (b"path,label\n\n\na,1\n\n", [{"path": "a", "label": "1"}]),
    (b'path,label\n"a, b",1\n', [{"path": "a, b", "label": "1"}]),
    (b'path,label\n"a""b",  1\n', [{"path": 'a"b', "label": "1"}]),
    (b"path,label\na,1,,\n", [{"path": "a", "label": "1"}]),
    (b"path,label,\na,1,\n", [{"path": "a", "label": "1", "": ""}]),
    (b"path,label,more\na,1\n", [{"path": "a", "label": "1", "more": ""}]),
    ("path,label\n猫 é.png,é\n".encode(), [{"path": "猫 é.png", "label": "é"}]),
])
def test_lines_of_any_writer_are_read(tmp_path, content, cells):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    assert read_lines(path, ["path", "label"]) == cells


def test_a_line_is_where_an_editor_shows_it_though_a_field_holds_line_ends(tmp_path):
    path = table(tmp_path, "path,label", '"a\nb",1', "", "c,2")
    lines = read_lines(path, ["path"])
    # the end of a line of several
    assert [line.number for line in lines] == [3, 5]
    assert lines[1].where == f"{path}, line 5"


@pytest.mark.parametrize("content,words", [
    (b"", "there is no column path and no column label; the first line must name path,label"),
    (b"\n", "(it names nothing)"),
    (b",,\n", "(it names nothing)"),
    (b"path\na\n", "there is no column label; the first line must name path,label (it names pa"),
    (b"\xff\xfep\0a\0", "this is not a csv table in UTF-8"),
    (b"path,label\na,\xe9\n", "this is not a csv table in UTF-8"),
    (b"path,label\n" + b"a" * 200_000 + b",1\n", "this is not a csv table in UTF-8 (field larger"),
    (b'path,label\na,"1\nb,2\n', "this is not a csv table in UTF-8 (unexpected end"),
    (b'path,label\na,"1\nb,"2"\n', "this is not a csv table in UTF-8"),
    (b"path,label\na\n", "line 2: the label is empty; fill it in, or remove the line."),
    (b"path,label\n , \n", "line 2: the path is empty"),
    (b"path,label\n,,x\n", "line 2: there are more fields than columns; put quotes around"),
    (b"label,path,Path \n", "the column path stands twice; leave one of them out."),
])
def test_a_table_that_is_none_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    said = refused(path, ["path", "label"])
    assert words in said
    assert said.startswith(str(path)) and "\n" not in said


def test_what_to_do_about_a_missing_table_is_said_and_a_folder_is_none(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_lines(tmp_path / "a.csv", ["label"], missing="make it.")
    assert str(caught.value) == f"{tmp_path / 'a.csv'}: there is no such file; make it."
    assert "this table cannot be read (Is a directory); allow it." in refused(tmp_path)


def test_a_column_that_may_be_absent_is_not_partly_blank(tmp_path):
    path = table(tmp_path, "label", "a")
    assert read_lines(path, ["label"], ["class"]) == [{"label": "a"}]
    path = table(tmp_path, "label,class,note", "a,x,", "b,,")
    assert len(read_lines(path, ["label"])) == 2
    assert "line 3: the class is empty" in refused(path)


def test_lines_are_read_one_after_the_other(tmp_path):
    path = table(tmp_path, "label", "a", "b", "c,d")
    lines = each_line(path, ["label"])
    assert [next(lines)["label"], next(lines)["label"]] == ["a", "b"]
    with pytest.raises(UsageError, match="line 4: there are more fields"):
        next(lines)


@pytest.mark.parametrize("name,same", [
    ("3.", "3"), ("+0", "0"), ("-0", "0"), (" 7 ", "7"), ("-3.00", "-3"),
    ("3.1", "3.1"), (".0", ".0"), ("", ""), ("--3", "--3"), ("3 0", "3 0"), ("１", "１"),
])
def test_spellings_of_a_whole_number(name, same):
    assert same_name(name) == same
